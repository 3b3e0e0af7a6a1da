//! Attaches the program to interfaces, by links that are pinned.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode as Attach, loaded_programs};

use super::pins::Pins;
use super::sys;
use crate::config::XdpMode;

/// Programs of the machine that are looked through for a name.
const MOST_PROGRAMS: usize = 4096;

/// How the program got attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub ifindex: u32,
    pub mode: Mode,
    /// Why it is generic though native was tried.
    pub reason: Option<String>,
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Native,
    Generic,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// An interface to attach to.
#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    pub ifindex: u32,
    /// The XDP program it has, whoever attached it, and where that runs.
    pub occupant: Option<(u32, Mode)>,
}

/// Replaces a predecessor's program in one step, or attaches where there is none.
///
/// # Errors
/// Another program occupies the interface, or the driver refuses.
pub fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &Interface,
    wanted: XdpMode,
) -> anyhow::Result<Attachment> {
    if let Some(mode) = replace(program, pins, interface)? {
        return Ok(Attachment { ifindex: interface.ifindex, mode, reason: None });
    }
    if let Some((id, _)) = interface.occupant {
        bail!(occupied(&interface.name, id));
    }
    let (mode, reason) = match wanted {
        XdpMode::Native => (Mode::Native, None),
        XdpMode::Generic => (Mode::Generic, Some("the configuration says so".to_owned())),
        XdpMode::Auto => match attach_new(program, pins, interface, Mode::Native) {
            Ok(()) => return Ok(attachment(interface, Mode::Native, None)),
            Err(error) => (Mode::Generic, Some(format!("native: {error:#}"))),
        },
    };
    attach_new(program, pins, interface, mode)?;
    Ok(attachment(interface, mode, reason))
}

/// Why an interface that has somebody else's program is left alone, and what to do.
pub fn occupied(interface: &str, program: u32) -> String {
    format!(
        "{interface} already carries XDP program {} of another owner, which Fairlead does not replace by \
         itself: remove it (ip link set dev {interface} xdp off), have it replaced (replace_xdp: true), \
         or leave the interface out",
        program_in_words(program)
    )
}

/// `42 (its name)`; the name only if the kernel tells.
pub fn program_in_words(id: u32) -> String {
    program_name(id).map_or_else(|| id.to_string(), |name| format!("{id} ({name})"))
}

/// What a program calls itself; to see that takes CAP_SYS_ADMIN.
pub fn program_name(id: u32) -> Option<String> {
    let mut programs = loaded_programs().take(MOST_PROGRAMS).filter_map(Result::ok);
    let found = programs.find(|program| program.id() == id)?;
    found.name_as_str().map(str::to_owned).filter(|name| !name.is_empty())
}

fn attachment(interface: &Interface, mode: Mode, reason: Option<String>) -> Attachment {
    Attachment { ifindex: interface.ifindex, mode, reason }
}

/// Puts the program into the link that a predecessor pinned. `None`: there is none that is alive.
fn replace(program: &mut Xdp, pins: &Pins, interface: &Interface) -> anyhow::Result<Option<Mode>> {
    let path = pins.link(&interface.name);
    if !path.exists() {
        return Ok(None);
    }
    if !is_link_on(&path, interface.ifindex) {
        // Of an interface that is gone, or was made again under the same name.
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        return Ok(None);
    }
    let link: FdLink =
        PinnedLink::from_pin(&path).with_context(|| format!("opening {}", path.display()))?.into();
    program
        .attach_to_link(XdpLink::try_from(link).context("adopting the link")?)
        .with_context(|| format!("replacing the program of {}", interface.name))?;
    Ok(Some(interface.occupant.map_or(Mode::Native, |(_, mode)| mode)))
}

/// Puts another program of ours into an interface's link, in one step. An interface that is gone has none.
pub fn exchange(program: &mut Xdp, pins: &Pins, interface: &str) -> anyhow::Result<()> {
    let path = pins.link(interface);
    if !path.exists() {
        return Ok(());
    }
    let link: FdLink =
        PinnedLink::from_pin(&path).with_context(|| format!("opening {}", path.display()))?.into();
    let link = XdpLink::try_from(link).context("opening the link")?;
    let exchanged = program
        .attach_to_link(link)
        .with_context(|| format!("exchanging the program of {interface}"))?;
    // The pin keeps it.
    drop(program.take_link(exchanged)?);
    Ok(())
}

fn attach_new(
    program: &mut Xdp,
    pins: &Pins,
    interface: &Interface,
    mode: Mode,
) -> anyhow::Result<()> {
    let flags = match mode {
        Mode::Native => Attach::Driver,
        Mode::Generic => Attach::Skb,
    };
    let id = program
        .attach_to_if_index(interface.ifindex, flags)
        .map_err(|error| explain(error, interface))?;
    let link: FdLink = program.take_link(id)?.try_into().context("the kernel gave no link")?;
    let path = pins.link(&interface.name);
    let pinned = link.pin(&path).with_context(|| format!("pinning {}", path.display()))?;
    drop(pinned);
    Ok(())
}

/// The kernel's answers to an attachment, in words.
fn explain(error: ProgramError, interface: &Interface) -> anyhow::Error {
    let code = if let ProgramError::SyscallError(error) = &error {
        error.io_error.raw_os_error()
    } else {
        None
    };
    let name = &interface.name;
    let why = match code {
        Some(libc::EOPNOTSUPP) => "its driver has no XDP in this mode",
        Some(libc::EBUSY) => "another XDP program is attached to it",
        Some(libc::EPERM | libc::EACCES) => "not permitted: CAP_BPF and CAP_NET_ADMIN are needed",
        Some(libc::EINVAL | libc::ERANGE) => {
            "refused; is its MTU above what the driver's XDP takes?"
        }
        _ => "refused",
    };
    anyhow::Error::new(error).context(format!("attaching to {name}: {why}"))
}

/// Detaches from an interface and removes its link.
pub fn detach(pins: &Pins, interface: &str) -> anyhow::Result<()> {
    detach_pinned(&pins.link(interface))
}

/// Takes off what a pinned link holds, if there is one, and removes the link.
pub(super) fn detach_pinned(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        let detached = sys::pinned_object(path).and_then(|link| sys::detach_link(link.as_fd()));
        if let Err(error) = detached {
            // The interface may be gone; the program ends with its link at the latest.
            log::debug!("detaching by {}: {error}", path.display());
        }
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// The link of an interface is alive and on the interface of this index.
pub fn is_attached(pins: &Pins, interface: &str, ifindex: u32) -> bool {
    is_link_on(&pins.link(interface), ifindex)
}

/// A pinned link is alive and on the interface of this index.
pub(super) fn is_link_on(path: &Path, ifindex: u32) -> bool {
    sys::pinned_object(path)
        .and_then(|link| sys::link_info(link.as_fd()))
        .is_ok_and(|info| info.ifindex == ifindex)
}
