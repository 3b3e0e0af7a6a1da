//! An image of this program: nothing but it and what it is linked to. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::PROGRAM;

/// Where the program looks for its loader.
const LOADER: &str = if cfg!(target_arch = "aarch64") {
    "/lib/ld-linux-aarch64.so.1"
} else {
    "/lib64/ld-linux-x86-64.so.2"
};

const HEAD: &str = "# podman build -t fairlead -f Containerfile /     (or docker buildx build)
# Needs capabilities BPF, PERFMON, NET_ADMIN, NET_RAW, SYS_NICE and IPC_LOCK, the host's network, and the host's
# /sys/fs/bpf, /run/fairlead and /var/lib/fairlead; nothing else is written. Root, as these are root's.
FROM scratch
";

/// # Errors
/// The program is linked to no loader that is known.
pub(super) fn containerfile(maps: &str, program: &Path) -> Result<String> {
    let mut text = HEAD.to_owned();
    for library in libraries(maps) {
        push(&mut text, format_args!("COPY {library} {library}"));
    }
    let loader = libraries(maps)
        .into_iter()
        .find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-linux")))
        .context("this program is not linked to glibc; build the image where it is")?;
    push(&mut text, format_args!("COPY {loader} {LOADER}"));
    push(&mut text, format_args!("COPY {} {PROGRAM}", program.display()));
    push(&mut text, format_args!("ENTRYPOINT [\"{PROGRAM}\"]\nCMD [\"run\"]"));
    Ok(text)
}

/// The shared objects in a process's `/proc/PID/maps` (proc(5)).
fn libraries(maps: &str) -> BTreeSet<&str> {
    let paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    paths.filter(|path| path.starts_with('/') && path.contains(".so")).collect()
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_its_libraries_and_its_loader_are_copied() {
        let maps = "\
55d0-55d1 r-xp 00000000 fe:00 12 /usr/sbin/fairlead
7f01-7f02 r-xp 00000000 fe:00 13 /usr/lib/x86_64-linux-gnu/libc.so.6
7f02-7f03 rw-p 00000000 fe:00 13 /usr/lib/x86_64-linux-gnu/libc.so.6
7f04-7f05 rw-p 00000000 00:00 0
7f06-7f07 r-xp 00000000 fe:00 14 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffc-7ffd rw-p 00000000 00:00 0 [stack]
";
        let text = containerfile(maps, Path::new("/usr/local/sbin/fairlead")).unwrap();
        let copies: Vec<_> = text.lines().filter(|line| line.starts_with("COPY")).collect();
        let (libc, ld) = (
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        );
        let expected = [
            format!("COPY {ld} {ld}"),
            format!("COPY {libc} {libc}"),
            format!("COPY {ld} {LOADER}"),
            "COPY /usr/local/sbin/fairlead /usr/sbin/fairlead".to_owned(),
        ];
        assert_eq!(copies, expected);
        assert!(containerfile("", Path::new("/f")).is_err());
    }
}
