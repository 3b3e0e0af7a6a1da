//! Backends by DNS name: traffic follows the answers, and survives that there are none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Host, Plan, Topology};
use serde_json::Value;

const SHORT: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn traffic_follows_a_name_and_stays_when_dns_dies() {
    let lab = Topology::build(&Plan { backends: 2, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let [cp1, cp2] = ["cp1", "cp2"].map(|name| lab.backend(name).unwrap());
    let dns = Dns::start(cp2).unwrap();
    dns.say(&[cp1.address]);
    let mut controller = controller(&lab, cp2).unwrap();
    controller.start().unwrap();

    wait_backends(&controller, &[cp1]).unwrap();
    let mut held = connect(&lab).unwrap();
    assert_eq!(held.server, "cp1");
    dns.say(&[cp2.address]);
    wait_backends(&controller, &[cp2]).unwrap();
    assert_eq!(connect(&lab).unwrap().server, "cp2");
    held.exchange("what is there stays").unwrap();

    dns.is_mute.store(true, Ordering::Relaxed);
    let failing = |status: &Value| status["names"][0]["failure"].is_string();
    eventually_is("the failure in status", SHORT, || controller.status(), failing).unwrap();
    wait_backends(&controller, &[cp2]).unwrap();
    assert_eq!(connect(&lab).unwrap().server, "cp2");

    let told = controller.cli(&["events"]).unwrap();
    let [first, second] = [cp1, cp2].map(|host| host.address);
    for expected in
        [format!("(IPv4): added {second}; removed {first}"), "no DNS server answers".into()]
    {
        assert_eq!(told.matches(&expected).count(), 1, "{told}");
    }

    controller.stop(true).unwrap();
    controller.start().unwrap();
    assert_eq!(connect(&lab).unwrap().server, "cp2");
    dns.say(&[cp1.address, cp2.address]);
    dns.is_mute.store(false, Ordering::Relaxed);
    wait_backends(&controller, &[cp1, cp2]).unwrap();
    held.exchange("all the time").unwrap();

    let node = IpAddr::from(lab.lbs[0].host.address);
    let asked = dns.asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|from| from.ip() == node), "{asked:?}");
}

/// A controller whose backends have the name that [`Dns`] on `server` knows; it does not run.
pub(super) fn controller<'lab>(lab: &'lab Topology, server: &Host) -> Result<Controller<'lab>> {
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary()?, lab.directory());
    let resolv_conf = format!("nameserver {}\noptions timeout:1 attempts:1\n", server.address);
    controller.set_resolv_conf(&resolv_conf)?;
    let by_name = plain::config(lab, &plain::backends(lab)[..0], controller.socket());
    let vips = format!("vips: [{}]", lab.vip());
    let by_name = by_name.replace("vips: []", &vips);
    let backends = "      - { name: cp, host: apiservers.fairlead.test. }\n";
    controller.write_config(&(by_name + backends))?;
    Ok(controller)
}

/// Waits until these are the backends, and up.
pub(super) fn wait_backends(controller: &Controller<'_>, hosts: &[&Host]) -> Result<()> {
    let wanted: Vec<String> = hosts.iter().map(|host| format!("cp@{} up", host.address)).collect();
    let seen = || {
        let status = controller.status()?;
        let backends = status["services"][0]["backends"].as_array().cloned().unwrap_or_default();
        let text = |backend: &Value, key: &str| backend[key].as_str().unwrap_or("?").to_owned();
        let backends = backends.iter();
        Ok(backends.map(|it| format!("{} {}", text(it, "name"), text(it, "state"))).collect())
    };
    eventually_is("the backends", SHORT, seen, |seen: &Vec<String>| *seen == wanted).map(drop)
}

fn connect(lab: &Topology) -> Result<EchoClient> {
    lab.client.netns.on_thread(|| EchoClient::connect(plain::target(lab), None))
}

/// A DNS server that knows one name, for a second at a time.
pub(super) struct Dns {
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
    /// Answers nothing.
    is_mute: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<SocketAddr>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    pub(super) fn start(host: &Host) -> Result<Self> {
        let socket = host.netns.on_thread(|| Ok(UdpSocket::bind((host.address, 53))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut dns = Self {
            addresses: Arc::default(),
            is_mute: Arc::default(),
            asked: Arc::default(),
            is_over: Arc::default(),
            thread: None,
        };
        let (addresses, asked) = (Arc::clone(&dns.addresses), Arc::clone(&dns.asked));
        let (is_mute, is_over) = (Arc::clone(&dns.is_mute), Arc::clone(&dns.is_over));
        dns.thread = Some(thread::spawn(move || {
            let mut bytes = [0; 1500];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                asked.lock().unwrap().push(from);
                if !is_mute.load(Ordering::Relaxed) {
                    let answer = answer(&bytes[..length], &addresses.lock().unwrap());
                    socket.send_to(&answer, from).unwrap();
                }
            }
        }));
        Ok(dns)
    }

    pub(super) fn say(&self, addresses: &[Ipv4Addr]) {
        *self.addresses.lock().unwrap() = addresses.to_vec();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let request = Message::from_vec(question).unwrap();
    let query = request.queries[0].clone();
    let mut response = Message::response(request.id, request.op_code);
    if query.query_type() == RecordType::A {
        for address in addresses {
            response.add_answer(Record::from_rdata(query.name().clone(), 1, RData::A(A(*address))));
        }
    }
    response.add_query(query);
    response.to_vec().unwrap()
}
