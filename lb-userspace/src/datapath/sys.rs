//! The bpf(2) commands that `aya` 0.14 has no function for: batches, untyped copies, a link's
//! interface, small programs. The only unsafe code of the controller's datapath.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod program;
mod shared;
mod walk;

pub use program::Program;
pub use shared::Shared;
pub use walk::{Progress, Walk};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be the layout of `command`, and the pointers in it valid for what the command does.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller vouches for the contents, the reference for the memory.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, core::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Likewise, for commands that return a new descriptor.
///
/// # Safety
/// As for [`bpf`], and `command` must be one of those.
unsafe fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for it.
    let fd = unsafe { bpf(command, attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn fd(map: BorrowedFd<'_>) -> u32 {
    map.as_raw_fd().cast_unsigned()
}

/// Copies the value of `key` to `value`, which must have the map's value size. `false`: no such key.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = ElementAttr {
        map_fd: fd(map),
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: the kernel reads a key and writes a value, of the map's sizes, which the caller gave.
    match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stores `value` under `key`; both must have the map's sizes.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: fd(map),
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags,
        ..ElementAttr::default()
    };
    // SAFETY: the kernel reads a key and a value.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Removes `key`. `false`: there was none.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attr =
        ElementAttr { map_fd: fd(map), key: key.as_ptr() as u64, ..ElementAttr::default() };
    // SAFETY: the kernel reads a key.
    match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stores `count` values at the keys; the slices hold them one after the other.
pub fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> io::Result<()> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: fd(map),
        ..BatchAttr::default()
    };
    // SAFETY: the kernel reads `count` keys and values.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// A descriptor of what is pinned at `path`.
pub fn pinned_object(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr { pathname: path.as_ptr() as u64, ..ObjectAttr::default() };
    // SAFETY: the kernel reads a string that ends with NUL.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attr) }
}

/// Identifies the network namespace for as long as the machine runs (Linux 5.14).
pub fn namespace_cookie() -> io::Result<u64> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// What the kernel calls itself, as `6.1.0-17-amd64`; empty if it does not say.
pub fn kernel_release() -> String {
    let mut name = core::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the kernel writes one structure of strings; zeros are empty ones.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let release = name.release.iter().take_while(|byte| **byte != 0);
    let bytes: Vec<u8> = release.map(|byte| byte.to_ne_bytes()[0]).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the kernel says of a link of XDP or tcx: its program, and its interface (0: that is gone).
pub struct LinkInfo {
    pub program: u32,
    pub ifindex: u32,
}

pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // struct bpf_link_info: type, id, prog_id, padding, then a union that starts with the interface for both kinds.
    let mut info = [0u32; 16];
    let mut attr = InfoAttr {
        bpf_fd: fd(link),
        info_len: u32::try_from(size_of_val(&info)).unwrap_or(0),
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(LinkInfo { program: info[2], ifindex: info[4] })
}

/// What the kernel says of a link to a cgroup: that cgroup's number (0: it is gone).
pub struct CgroupLinkInfo {
    pub cgroup: u64,
}

pub fn cgroup_link_info(link: BorrowedFd<'_>) -> io::Result<CgroupLinkInfo> {
    // struct bpf_link_info: type, id, prog_id, padding, then a union that starts with the cgroup.
    let mut info = [0u64; 8];
    let mut attr = InfoAttr {
        bpf_fd: fd(link),
        info_len: u32::try_from(size_of_val(&info)).unwrap_or(0),
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(CgroupLinkInfo { cgroup: info[2] })
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Replaces a link's program in one step.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr =
        LinkUpdateAttr { link_fd: fd(link), new_prog_fd: fd(program), ..LinkUpdateAttr::default() };
    // SAFETY: the command reads two descriptors.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Takes a link's program off its interface at once: a link that nobody refers to is removed only some
/// time later.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut link = fd(link);
    // SAFETY: the command reads one descriptor.
    unsafe { bpf(BPF_LINK_DETACH, &mut link) }.map(drop)
}

/// Tells when a ring has something to read. Must be called within a tokio runtime.
pub fn watch_ring(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, has the same all its life, and is not taken out.
    let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Reads a plain value out of a map's bytes.
pub fn from_bytes<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    (bytes.len() >= size_of::<T>()).then(|| {
        // SAFETY: `Pod` accepts every bit pattern, and the length was checked.
        unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) }
    })
}

/// The bytes of a plain value.
pub fn as_bytes<T: aya::Pod>(value: &T) -> &[u8] {
    // SAFETY: our `Pod` types have no padding (asserted beside each), so all bytes are initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}
