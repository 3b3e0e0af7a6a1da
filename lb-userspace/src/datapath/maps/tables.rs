//! Selection tables: arrays of their own, which the program finds by the number of a service.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use aya::maps::{Array, IterableMap as _, MapData};
use lb_common::backend::BackendId;

use super::super::sys::{self, Walk};
use super::Maps;

/// The kernel accepts an inner array of another length than the declared one only with this flag.
const BPF_F_INNER_MAP: u32 = 0x1000;

pub(super) type Table = Array<MapData, u32>;

impl Maps {
    /// The table that the program uses for a service. None as well if another was pinned: it is written
    /// again.
    pub(super) fn table(&self, service: u32) -> anyhow::Result<Option<MapData>> {
        let mut id = [0; 4];
        let found = sys::lookup(self.tables_fd.fd().as_fd(), &service.to_ne_bytes(), &mut id)
            .context("reading which table a service has")?;
        if !found {
            return Ok(None);
        }
        let Some(table) = self.dir.table(service) else { return Ok(None) };
        let is_same = table.info()?.id() == u32::from_ne_bytes(id);
        Ok(is_same.then_some(table))
    }

    /// Swaps tables in one call, where the kernel takes several at once (Linux 5.17).
    pub(super) fn set_tables(&mut self, tables: &[(u32, Table)]) -> anyhow::Result<()> {
        let mut swapped = false;
        if let [_, _, ..] = tables {
            let count = u32::try_from(tables.len())?;
            let fd = |table: &Table| table.map().fd().as_fd().as_raw_fd();
            let keys: Vec<u8> =
                tables.iter().flat_map(|(service, _)| service.to_ne_bytes()).collect();
            let values: Vec<u8> =
                tables.iter().flat_map(|(_, table)| fd(table).to_ne_bytes()).collect();
            let tables = self.tables_fd.fd().as_fd();
            swapped = sys::update_batch(tables, &keys, &values, count).is_ok();
        }
        for (service, table) in tables {
            if !swapped {
                self.tables.set(*service, table, 0)?;
            }
            self.dir.pin_table(*service, table.map())?;
        }
        Ok(())
    }
}

/// A table as the program reads it: its length, then its slots.
pub(super) fn new_table(slots: &[BackendId]) -> anyhow::Result<Table> {
    let length = u32::try_from(slots.len()).context("a selection table is too long")?;
    let table = Table::create(length + 1, BPF_F_INNER_MAP).context("creating a selection table")?;
    let keys: Vec<u8> = (0..=length).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> =
        std::iter::once(&length).chain(slots).flat_map(|value| value.to_ne_bytes()).collect();
    sys::update_batch(table.map().fd().as_fd(), &keys, &values, length + 1)
        .context("filling a selection table")?;
    Ok(table)
}

pub(super) fn read_table(table: &MapData) -> anyhow::Result<Vec<BackendId>> {
    let mut values = Vec::new();
    Walk::new(4, 4, 4096)
        .all(table.fd().as_fd(), |_, value| {
            values.extend(sys::from_bytes::<u32>(value));
            Ok(())
        })
        .context("reading a selection table")?;
    let length = values.first().copied().unwrap_or(0) as usize;
    Ok(values.get(1..=length).unwrap_or_default().to_vec())
}
