//! A kernel that lacks something: bpf(2) of whoever is started here is looked at, and refused where an older
//! kernel would refuse it (seccomp_unotify(2), Linux 5.5).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow};

/// What it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Programs of traffic control by links: Linux 6.6.
    Tcx,
    /// `bpf_set_retval`: Linux 6.0.
    SetRetval,
}

/// `bpf_cmd`, `bpf_attach_type` and `bpf_func_id` of linux/bpf.h.
const BPF_PROG_LOAD: u64 = 5;
const BPF_PROG_QUERY: u64 = 16;
const BPF_LINK_CREATE: u64 = 28;
const BPF_TCX: std::ops::RangeInclusive<u32> = 46..=47;
const BPF_FUNC_SET_RETVAL: u32 = 187;
/// `BPF_JMP | BPF_CALL`, the code of an instruction that calls a helper.
const CALL: u8 = 0x85;
const INSTRUCTION: usize = 8;
/// A program no longer than this is one that only asks for a helper. In others the verifier of an old kernel
/// does not mind a call that it never comes to.
const QUESTION: u32 = 4;

/// Does `work` on a thread of its own; it and all that it starts find a kernel that lacks something. Controllers
/// end with the thread that started them.
pub fn without<T: Send>(lacks: Lacks, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let listener = install().context("having bpf(2) looked at")?;
            // It ends when nobody is left who could call.
            thread::Builder::new()
                .name("old kernel".to_owned())
                .spawn(move || while answer(&listener, lacks).is_ok() {})?;
            work()
        });
        thread.join().map_err(|_| anyhow!("a thread with an old kernel panicked"))?
    })
}

/// From here on the calling thread's bpf(2), and that of all it starts, waits for an answer.
fn install() -> io::Result<OwnedFd> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let bpf = u32::try_from(libc::SYS_bpf).unwrap_or_default();
    let mut filter = [
        // The call's number is the first word of what the filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, bpf),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions live through the calls, which change this thread only.
    let listener = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    let listener = i32::try_from(listener).map_err(io::Error::other)?;
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Answers one call. An error: nobody is left to call.
fn answer(listener: &OwnedFd, lacks: Lacks) -> io::Result<()> {
    let fd = listener.as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
        return interrupted();
    }
    if poll.revents & libc::POLLIN == 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // SAFETY: integers only.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is what the command writes.
    if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } != 0 {
        return interrupted();
    }
    let refused = is_refused(&call, lacks).unwrap_or(false);
    let mut response = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags: 0 };
    if refused {
        response.error = -libc::EINVAL;
    } else {
        response.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or_default();
    }
    // SAFETY: the structure is what the command reads. Whoever called may have died meanwhile.
    unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    Ok(())
}

/// Who called may be gone, which is no end; and a signal is none either.
fn interrupted() -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

fn is_refused(call: &libc::seccomp_notif, lacks: Lacks) -> io::Result<bool> {
    let [command, at, ..] = call.data.args;
    let memory = File::open(format!("/proc/{}/mem", call.pid))?;
    let mut attr = [0; 16];
    memory.read_exact_at(&mut attr, at)?;
    let [_, second, third, fourth] = words(&attr);
    Ok(match (lacks, command) {
        (Lacks::Tcx, BPF_LINK_CREATE) => BPF_TCX.contains(&third),
        (Lacks::Tcx, BPF_PROG_QUERY) => BPF_TCX.contains(&second),
        (Lacks::SetRetval, BPF_PROG_LOAD) if second <= QUESTION => {
            let instructions = u64::from(third) | u64::from(fourth) << 32;
            let mut program = vec![0; second as usize * INSTRUCTION];
            memory.read_exact_at(&mut program, instructions)?;
            program
                .chunks_exact(INSTRUCTION)
                .any(|it| it[0] == CALL && it[4..] == BPF_FUNC_SET_RETVAL.to_ne_bytes())
        }
        (Lacks::Tcx | Lacks::SetRetval, _) => false,
    })
}

fn words(bytes: &[u8; 16]) -> [u32; 4] {
    std::array::from_fn(|index| {
        let at = index * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Program, TCX_NEXT};
    use crate::netns::Netns;
    use crate::xdp_pass::Attached;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn only_what_is_lacking_is_refused() {
        let netns = Netns::unique("old").unwrap();
        let attach = || {
            let program = Program::load_classifier(&TCX_NEXT)?;
            let attached = netns.on_thread(|| Ok(Attached::at_egress(&program, "lo")))?;
            Ok(attached.map(drop).map_err(|error| format!("{error:#}")))
        };
        assert_eq!(without(Lacks::SetRetval, attach).unwrap(), Ok(()));
        let refused = without(Lacks::Tcx, attach).unwrap().unwrap_err();
        assert!(refused.contains("Invalid argument"), "{refused}");
        assert_eq!(attach().unwrap(), Ok(()));
    }
}
