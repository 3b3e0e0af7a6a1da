//! The socket of the API: made so that no one but its owner can ever connect, and removed when its
//! listener is dropped. Used by the daemon, through `admin::bind`. I/O.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};

/// A bound socket. Its file goes when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// For the runtime; the file stays until the second part is dropped.
    pub(super) fn into_tokio(self) -> Result<(tokio::net::UnixListener, impl Drop)> {
        let Self { listener, file } = self;
        listener.set_nonblocking(true).context("setting up the admin socket")?;
        let listener =
            tokio::net::UnixListener::from_std(listener).context("setting up the admin socket")?;
        Ok((listener, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Binds `path`, with mode 0600 from the start; a directory that is missing is made, with 0755. What a
/// killed controller left is replaced; a socket that answers, and what is no socket, is refused.
pub fn bind(path: &Path) -> Result<Listener> {
    let shown = path.display();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => bail!("the admin socket cannot be {shown}; name a file in a directory"),
    };
    // It is bound under another name, so nothing else would notice.
    SockAddr::unix(path).with_context(|| format!("{shown} is no address of a socket"))?;
    make_directory(directory)?;
    // Two that start at once must not remove each other's sockets.
    let opened =
        File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    let _lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| io::Error::from(errno))
        .with_context(|| {
            format!("locking {}: another controller is starting", directory.display())
        })?;
    remove_stale(path)?;
    bind_private(path, directory).with_context(|| format!("binding the admin socket {shown}"))
}

fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .with_context(|| format!("making the admin socket's directory {}", directory.display()))
}

/// A socket has the umask's mode from `bind` to `chmod`, and the umask is the process's. So it is bound
/// where only its owner gets, and shown when its mode is right; `hard_link` replaces nothing.
fn bind_private(path: &Path, directory: &Path) -> io::Result<Listener> {
    let private = directory.join(format!(".{}", std::process::id()));
    let hidden = private.join("s");
    // Of an earlier process with this number: we hold the directory's lock.
    let _ = fs::remove_file(&hidden);
    let _ = fs::remove_dir(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = bind_at(&hidden, path);
    let _ = fs::remove_file(&hidden);
    let _ = fs::remove_dir(&private);
    bound
}

fn bind_at(hidden: &Path, path: &Path) -> io::Result<Listener> {
    let listener = UnixListener::bind(hidden)?;
    fs::set_permissions(hidden, Permissions::from_mode(0o600))?;
    let found = fs::symlink_metadata(hidden)?;
    fs::hard_link(hidden, path)?;
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    Ok(Listener { listener, file })
}

fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {shown}")),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{shown} exists and is no socket; remove it, or set admin.socket to another path")
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("removing the stale socket {shown}"))
        }
        Ok(()) => bail!(
            "a controller answers at {shown} already; stop it, or set admin.socket to another path"
        ),
        // Such as a full backlog: someone listens.
        Err(error) => Err(error).with_context(|| {
            format!("{shown} is in use; stop who has it, or set admin.socket to another path")
        }),
    }
}

/// Never waits: a listener that hangs has a full backlog.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}
