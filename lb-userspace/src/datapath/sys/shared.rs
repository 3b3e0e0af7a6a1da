//! A map in this process's memory.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;

/// The elements of an array that was made with `BPF_F_MMAPABLE` (Linux 5.5), as the kernel has them: programs and
/// other processes write to them at any time.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: memory that belongs to no thread; what is done with it through raw pointers is the user's to answer for.
unsafe impl Send for Shared {}
// SAFETY: likewise.
unsafe impl Sync for Shared {}

impl Shared {
    /// The first `length` bytes of a map's elements.
    ///
    /// # Errors
    /// There are not so many, or it is another kind of map.
    pub fn map(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe {
            let none = core::ptr::null_mut();
            libc::mmap(none, length, access, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length })
    }

    /// A `T` at so many bytes; `None`: it is not there as a whole, or not aligned. Valid as long as `self`.
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: within the mapping.
        Some(unsafe { self.start.as_ptr().add(offset) }.cast())
    }

    /// Copies bytes as they are now. `None`: they are not all there.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        for (index, byte) in bytes.iter_mut().enumerate() {
            let from: *mut u8 = self.at(offset.checked_add(index)?)?;
            // SAFETY: `at` gives valid ones.
            *byte = unsafe { core::ptr::read_volatile(from) };
        }
        Some(())
    }

    /// Copies a value as it is now. Another may be writing to it: of a plain one all bytes are some value.
    pub fn get<T: aya::Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` gives valid ones.
        self.at(offset).map(|value| unsafe { core::ptr::read_volatile(value) })
    }

    /// Stores a value. `None`: there is no such place.
    pub fn set<T: aya::Pod>(&self, offset: usize, value: T) -> Option<()> {
        // SAFETY: `at` gives valid ones.
        self.at(offset).map(|to| unsafe { core::ptr::write_volatile(to, value) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made above, which nothing refers to any more.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}
