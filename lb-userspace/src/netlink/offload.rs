//! What an interface does to received packets before XDP sees them: merging (GRO, LRO) and taking VLAN
//! tags out, queried and switched; and which driver it is that does. Called where XDP attaches. I/O.
//!
//! Generic XDP sees frames after GRO: merged ones are longer than the link's MTU and could not
//! be sent on. The kernel switches LRO and hardware GRO off for generic XDP itself, but not GRO.

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// Whether the kernel merges received segments.
pub fn gro(ifname: &str) -> Result<bool> {
    let value = ethtool(ifname, ETHTOOL_GGRO, 0);
    Ok(value.with_context(|| format!("read whether {ifname} has GRO on"))? != 0)
}

pub fn set_gro(ifname: &str, on: bool) -> Result<()> {
    let done = ethtool(ifname, ETHTOOL_SGRO, u32::from(on));
    done.map(drop).with_context(|| format!("switch GRO of {ifname} {}", on_off(on)))
}

/// Whether the tags of received VLAN frames are taken out of them, so that XDP does not see them.
pub fn rxvlan(ifname: &str) -> Result<bool> {
    let flags = ethtool(ifname, ETHTOOL_GFLAGS, 0);
    let context = || format!("read whether {ifname} takes VLAN tags out");
    Ok(flags.with_context(context)? & ETH_FLAG_RXVLAN != 0)
}

/// # Errors
/// Also if the driver cannot do without.
pub fn set_rxvlan(ifname: &str, on: bool) -> Result<()> {
    set_flag(ifname, ETH_FLAG_RXVLAN, on)
        .with_context(|| format!("switch rx-vlan-offload of {ifname} {}", on_off(on)))
}

/// Whether the hardware merges received segments.
pub fn lro(ifname: &str) -> Result<bool> {
    let flags = ethtool(ifname, ETHTOOL_GFLAGS, 0);
    Ok(flags.with_context(|| format!("read whether {ifname} has LRO on"))? & ETH_FLAG_LRO != 0)
}

pub fn set_lro(ifname: &str, on: bool) -> Result<()> {
    set_flag(ifname, ETH_FLAG_LRO, on)
        .with_context(|| format!("switch LRO of {ifname} {}", on_off(on)))
}

/// The name of an interface's driver, such as `veth` or `mlx5_core`.
pub fn driver(ifname: &str) -> Result<String> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: the structure is the one of this command, which the kernel fills in.
    let done = unsafe { ioctl(ifname, &mut info) };
    done.with_context(|| format!("read which driver {ifname} has"))?;
    let name = info.driver.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn set_flag(ifname: &str, flag: u32, on: bool) -> io::Result<()> {
    let flags = ethtool(ifname, ETHTOOL_GFLAGS, 0)?;
    let wanted = if on { flags | flag } else { flags & !flag };
    if wanted != flags {
        ethtool(ifname, ETHTOOL_SFLAGS, wanted)?;
    }
    Ok(())
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The kernel's `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Executes a command whose argument and result is one number.
fn ethtool(ifname: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: the structure is the one that these commands read and write.
    unsafe { ioctl(ifname, &mut value) }?;
    Ok(value.data)
}

/// The kernel's `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, bus address and counts.
    rest: [u8; 160],
}

/// # Safety
/// `value` must begin with a command, and be the structure that this command reads and writes.
unsafe fn ioctl<T>(ifname: &str, value: &mut T) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut request = libc::ifreq {
        ifr_name: name(ifname)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut *value).cast() },
    };
    // SAFETY: the request is an ifreq whose data points to what the caller vouches for; both outlive the
    // call, and the socket is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name with the zero at its end that the kernel wants.
fn name(ifname: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut name = [0; libc::IFNAMSIZ];
    if ifname.is_empty() || ifname.len() >= name.len() || ifname.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name of an interface"));
    }
    for (to, from) in name.iter_mut().zip(ifname.bytes()) {
        *to = from.cast_signed();
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_cannot_have_are_refused() {
        for bad in ["", "abcdefghijklmnop", "a\0b"] {
            assert_eq!(name(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        let longest = name("abcdefghijklmno").unwrap();
        assert_eq!((longest[14], longest[15]), (b'o'.cast_signed(), 0));
    }

    #[test]
    fn an_error_says_what_was_done_to_what() {
        let error = gro("no-such-link").unwrap_err();
        assert_eq!(error.to_string(), "read whether no-such-link has GRO on");
        let error = set_rxvlan("no-such-link", false).unwrap_err();
        assert_eq!(error.to_string(), "switch rx-vlan-offload of no-such-link off");
    }
}
