//! The switch that all hosts are connected to: takes each packet from its sender's interface, lets the
//! [link](super::link) decide when it arrives, if at all, and gives it to the receiver's.
//!
//! A thread for each host carries what goes at once. What is delayed waits for a thread of its own,
//! in a bounded heap; what finds no room there is lost, as in any switch.

use super::link::Link;
use anyhow::{Context as _, Result};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;
use tun_rs::SyncDevice;

/// Larger than any packet.
const PACKET_BYTES_MAX: usize = 10_000;
/// Packets on their way over slow links.
const WAITING_MAX: usize = 20_000;
/// Where an IPv4 packet says who it is from, and who it is for.
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

#[derive(Default)]
struct Shared {
    ports: RwLock<BTreeMap<Ipv4Addr, Arc<SyncDevice>>>,
    /// Those that are not as good as new.
    links: RwLock<BTreeMap<(Ipv4Addr, Ipv4Addr), Link>>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    packets: BinaryHeap<Reverse<(Instant, u64)>>,
    /// By the number in the heap, so that packets of one moment keep their order.
    content: BTreeMap<u64, Vec<u8>>,
    newest: u64,
}

/// Packets from all to all, as the links let them.
#[derive(Clone)]
pub(crate) struct Switch {
    shared: Arc<Shared>,
    seed: u64,
}

impl Switch {
    /// Losses and delays follow the seed; when packets come does not.
    pub(super) fn start(seed: u64) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let late = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("switch".to_owned());
        thread.spawn(move || late.deliver_late()).context("no thread can be started")?;
        Ok(Self { shared, seed })
    }

    /// Connects a host, for ever: interfaces of hosts that ended carry nothing.
    pub(super) fn plug(&self, addr: Ipv4Addr, device: SyncDevice) -> Result<()> {
        let device = Arc::new(device);
        write(&self.shared.ports).insert(addr, Arc::clone(&device));
        let shared = Arc::clone(&self.shared);
        let rng = SmallRng::seed_from_u64(self.seed ^ u64::from(addr.to_bits()));
        let thread = std::thread::Builder::new().name(format!("port-{addr}"));
        thread.spawn(move || shared.take_from(&device, rng)).context("no thread can be started")?;
        Ok(())
    }

    /// Changes a direction.
    pub(crate) fn set(&self, from: Ipv4Addr, to: Ipv4Addr, link: Link) {
        write(&self.shared.links).insert((from, to), link);
    }

    /// All links are as good as new.
    pub(crate) fn heal(&self) {
        write(&self.shared.links).clear();
    }
}

impl Shared {
    fn take_from(&self, device: &SyncDevice, mut rng: SmallRng) {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        // It fails when the host is gone.
        while let Ok(length) = device.recv(&mut packet) {
            let packet = &packet[..length];
            let (Some(from), Some(to)) = (addr(packet, SOURCE), addr(packet, DESTINATION)) else {
                continue;
            };
            let link = read(&self.links).get(&(from, to)).copied().unwrap_or_default();
            let now = Instant::now();
            for takes in link.carry(&mut rng) {
                match takes.is_zero() {
                    true => self.deliver(to, packet),
                    false => self.wait(now + takes, packet),
                }
            }
        }
    }

    /// What can't be taken is lost.
    fn deliver(&self, to: Ipv4Addr, packet: &[u8]) {
        let port = read(&self.ports).get(&to).map(Arc::clone);
        if let Some(port) = port {
            let _ = port.send(packet);
        }
    }

    fn wait(&self, until: Instant, packet: &[u8]) {
        let mut waiting = lock(&self.waiting);
        if waiting.packets.len() < WAITING_MAX {
            waiting.newest += 1;
            let number = waiting.newest;
            waiting.packets.push(Reverse((until, number)));
            waiting.content.insert(number, packet.to_vec());
            self.arrived.notify_one();
        }
    }

    fn deliver_late(&self) {
        let mut waiting = lock(&self.waiting);
        loop {
            let now = Instant::now();
            waiting = match waiting.packets.peek() {
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(Reverse((until, _))) if *until > now => {
                    let left = *until - now;
                    let waited = self.arrived.wait_timeout(waiting, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let due = waiting.packets.pop();
                    let packet =
                        due.and_then(|Reverse((_, number))| waiting.content.remove(&number));
                    drop(waiting);
                    if let Some(packet) = packet
                        && let Some(to) = addr(&packet, DESTINATION)
                    {
                        self.deliver(to, &packet);
                    }
                    lock(&self.waiting)
                }
            };
        }
    }
}

/// An address in the header of an IPv4 packet; none of any other.
fn addr(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    is_ipv4.then(|| bytes.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
