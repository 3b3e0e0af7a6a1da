//! bpf(2) without a loader: small programs, test runs, run-time statistics.
//!
//! For what has to be cheap per frame (benches, millions of frames) or must not need a BPF toolchain.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_STATS_RUN_TIME: u32 = 0;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// `r0 = 3` (XDP_TX), `exit`: the cheapest program that sends a frame.
pub const XDP_TX: [u64; 2] = [0x0000_0003_0000_00b7, 0x0000_0000_0000_0095];

const LICENSE: &CStr = c"GPL";
/// What every program of these calls itself: `fixture`.
const NAME: [u8; 16] = *b"fixture\0\0\0\0\0\0\0\0\0";

/// The first fields of `union bpf_attr` for BPF_MAP_CREATE; what is left out counts as zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// … for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// … for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

/// … for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// … for BPF_ENABLE_STATS.
#[repr(C)]
struct EnableStats {
    kind: u32,
}

/// `r0 = -1` (TCX_NEXT), `exit`: the classifier that leaves a frame to the next one.
pub const TCX_NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

/// A program, of XDP if nothing else is said, made of instructions as linux/bpf.h lays them out, eight bytes each.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    pub fn load(instructions: &[u64]) -> io::Result<Self> {
        Self::load_with(BPF_PROG_TYPE_XDP, instructions, 0)
    }

    /// For what leaves or enters an interface.
    pub fn load_classifier(instructions: &[u64]) -> io::Result<Self> {
        Self::load_with(BPF_PROG_TYPE_SCHED_CLS, instructions, 0)
    }

    /// For frames of several buffers too; needs Linux 5.18.
    pub fn load_for_frags(instructions: &[u64]) -> io::Result<Self> {
        Self::load_with(BPF_PROG_TYPE_XDP, instructions, BPF_F_XDP_HAS_FRAGS)
    }

    fn load_with(prog_type: u32, instructions: &[u64], prog_flags: u32) -> io::Result<Self> {
        let mut attr = ProgLoad {
            prog_type,
            insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            insns: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            prog_flags,
            prog_name: NAME,
            ..ProgLoad::default()
        };
        // SAFETY: the kernel reads `insn_cnt` instructions and a string.
        unsafe { new_fd(BPF_PROG_LOAD, &mut attr) }.map(Self)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A hash map whose elements are allocated with it; sizes in bytes.
pub fn hash_map(key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    create_map(MapCreate { map_type: BPF_MAP_TYPE_HASH, key_size, value_size, max_entries })
}

/// Creates an array, all zero.
pub fn array(value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    create_map(MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size, max_entries })
}

fn create_map(mut attr: MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads four numbers.
    unsafe { new_fd(BPF_MAP_CREATE, &mut attr) }
}

/// What became of a frame: the XDP action, and how many bytes of `out` it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    pub action: u32,
    pub length: usize,
}

/// `struct xdp_md`: where a frame came in.
#[repr(C)]
#[derive(Default)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Runs a frame once through an XDP program, as if it came in by the loopback interface.
///
/// # Errors
/// ENOSPC if `out` is not empty and too small for what the frame became.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], out: &mut [u8]) -> io::Result<Ran> {
    run_from(program, None, frame, out)
}

/// The same, as if it came in by an interface of the calling thread's namespace, at which there is an XDP program.
pub fn run_from(
    program: BorrowedFd<'_>,
    ingress: Option<u32>,
    frame: &[u8],
    out: &mut [u8],
) -> io::Result<Ran> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let context = ingress.map(|ingress_ifindex| XdpMd {
        data_end: length,
        ingress_ifindex,
        ..XdpMd::default()
    });
    let context_size = context.as_ref().map_or(0, size_of_val);
    let mut attr = TestRun {
        prog_fd: raw(program),
        data_size_in: length,
        data_size_out: u32::try_from(out.len()).map_err(io::Error::other)?,
        data_in: frame.as_ptr() as u64,
        data_out: if out.is_empty() { 0 } else { out.as_mut_ptr() as u64 },
        repeat: 1,
        ctx_size_in: u32::try_from(context_size).map_err(io::Error::other)?,
        ctx_in: context.as_ref().map_or(0, |context| &raw const *context as u64),
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `data_size_in` bytes and a context, and writes at most `data_size_out`.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok(Ran { action: attr.retval, length: attr.data_size_out as usize })
}

/// Makes `count` frames and has an XDP program decide about each of them for real: what it redirects is sent,
/// by the calling thread. Needs Linux 5.18.
///
/// A frame's memory is used again as the last program left it: the program has to write what it wants sent.
pub fn run_live(program: BorrowedFd<'_>, frame: &[u8], count: u32) -> io::Result<()> {
    let mut attr = TestRun {
        prog_fd: raw(program),
        data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: frame.as_ptr() as u64,
        repeat: count,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `data_size_in` bytes, and writes nothing but `attr`.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
}

/// The kernel measures the run time of every program for as long as this is held.
pub fn measure_run_time() -> io::Result<OwnedFd> {
    let mut attr = EnableStats { kind: BPF_STATS_RUN_TIME };
    // SAFETY: the kernel reads one number.
    unsafe { new_fd(BPF_ENABLE_STATS, &mut attr) }
}

/// What the kernel knows of a loaded program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Of the machine code.
    pub jited_bytes: u32,
    /// Of the instructions after the verifier's rewriting, eight bytes each.
    pub xlated_bytes: u32,
    pub run_time_ns: u64,
    pub runs: u64,
}

pub fn info(program: BorrowedFd<'_>) -> io::Result<Info> {
    /// Words of `struct bpf_prog_info` up to the number of runs.
    const WORDS: usize = 26;
    let mut words = [0u64; WORDS];
    let mut attr = GetInfo {
        bpf_fd: raw(program),
        info_len: u32::try_from(size_of_val(&words)).map_err(io::Error::other)?,
        info: words.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes; zeros ask for none of its variable parts.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    // Two 32-bit fields share the third word.
    let [jited_bytes, xlated_bytes] = halves(words[2]);
    Ok(Info { jited_bytes, xlated_bytes, run_time_ns: words[24], runs: words[25] })
}

/// The two 32-bit fields at the place of a 64-bit one, in their order in memory.
fn halves(word: u64) -> [u32; 2] {
    let bytes = word.to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// Descriptors are never negative.
fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// As of [`bpf`], and `command` must return a new descriptor.
unsafe fn new_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the contents.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be the layout of `command`, and the pointers in it valid for what the command does.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller vouches for the contents, the reference for the memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
