//! The backends' web server: it says who it is, and has an object as large as an apiserver's.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use lb_tests::command::Process;
use lb_tests::http::SERVED_BY;
use lb_tests::topology::{API_PORT, Host, Topology};

/// What [`OBJECT`] is: about what a pod is as JSON.
const OBJECT_BYTES: usize = 8 * 1024;
/// Where it is.
pub(crate) const OBJECT: &str = "/object";

/// A running nginx; it ends with this.
pub(super) fn start(lab: &Topology, host: &Host, ports: &str) -> Result<Process> {
    let directory = lab.directory().join(format!("{}-nginx", host.name));
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let listens: String = host
        .listens(API_PORT)
        .iter()
        .map(|address| format!("listen {};\n", address.to_string().replace("6443", ports)))
        .collect();
    let file = directory.join("nginx.conf");
    let files = directory.join("files");
    fs::create_dir_all(&files).with_context(|| format!("creating {}", files.display()))?;
    fs::write(directory.join(format!("files{OBJECT}")), vec![b'o'; OBJECT_BYTES])?;
    fs::write(&file, config(&directory.display().to_string(), &host.name, &listens))?;
    let log = File::create(directory.join("log"))?;
    let mut command = host.netns.command("nginx");
    command.arg("-p").arg(&directory).arg("-c").arg(&file).arg("-e").arg(directory.join("errors"));
    Process::spawn(command.stdout(log.try_clone()?).stderr(log))
}

/// One process without a master: it is killed, and nobody starts another.
fn config(directory: &str, name: &str, listens: &str) -> String {
    format!(
        "daemon off;
master_process off;
user root;
pid {directory}/pid;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
access_log off;
sendfile on;
open_file_cache max=10;
keepalive_requests 1000000000;
keepalive_timeout 3600s;
client_header_timeout 3600s;
client_body_temp_path {directory}/body;
proxy_temp_path {directory}/proxy;
fastcgi_temp_path {directory}/fastcgi;
uwsgi_temp_path {directory}/uwsgi;
scgi_temp_path {directory}/scgi;
server {{
{listens}location / {{ add_header {SERVED_BY} {name}; return 200 \"{name}\"; }}
location = {OBJECT} {{ root {directory}/files; add_header {SERVED_BY} {name}; }}
}}
}}
"
    )
}
