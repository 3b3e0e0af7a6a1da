//! A whole map, a slice at a time.

use std::io;
use std::os::fd::BorrowedFd;

use super::{BPF_MAP_LOOKUP_BATCH, BatchAttr, bpf, fd};

/// A walk through all elements of a map, in slices.
pub struct Walk {
    key_size: usize,
    value_size: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Where the kernel goes on; opaque.
    cursor: Option<[u8; 64]>,
}

/// What is left of a [`Walk`] after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The next slice starts from the beginning.
    Complete,
}

impl Walk {
    /// Walks maps with these sizes, up to `slice` elements at a time. `value_size` is as bpf(2) copies
    /// it: of per-CPU maps all CPUs together.
    pub fn new(key_size: usize, value_size: usize, slice: usize) -> Self {
        Self {
            key_size,
            value_size,
            keys: vec![0; key_size * slice],
            values: vec![0; value_size * slice],
            cursor: None,
        }
    }

    /// Hands the next elements to `each`. Elements that come or go meanwhile may be missed.
    pub fn slice(
        &mut self,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<Progress> {
        let mut next = [0u8; 64];
        let mut attr = BatchAttr {
            in_batch: self.cursor.as_ref().map_or(0, |cursor| cursor.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: u32::try_from(self.keys.len() / self.key_size).unwrap_or(u32::MAX),
            map_fd: fd(map),
            ..BatchAttr::default()
        };
        // SAFETY: the buffers hold `count` keys and values; a cursor is a key or a bucket number, both
        // below 64 bytes.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
        let progress = match result {
            Ok(_) => Progress::More,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Progress::Complete,
            Err(error) => {
                self.cursor = None;
                return Err(error);
            }
        };
        self.cursor = (progress == Progress::More).then_some(next);
        let keys = self.keys.chunks(self.key_size);
        for (key, value) in keys.zip(self.values.chunks(self.value_size)).take(attr.count as usize)
        {
            each(key, value)?;
        }
        Ok(progress)
    }

    /// Hands all elements to `each`.
    pub fn all(
        &mut self,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.cursor = None;
        while self.slice(map, &mut each)? == Progress::More {}
        Ok(())
    }
}
