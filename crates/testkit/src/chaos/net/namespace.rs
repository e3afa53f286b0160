//! A host of its own on this machine: a network namespace with one interface, whose packets come to
//! the [switch](super::switch) of the test instead of a wire.

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::thread;
use tun_rs::{DeviceBuilder, SyncDevice};

/// Of packets: large, because each costs the switch two system calls.
const MTU: u16 = 9_000;
/// The bits of the network that all hosts are in.
const PREFIX: u8 = 24;
/// Of the only interface that a host has beside its own loopback.
const INTERFACE: &str = "wire0";

/// A network namespace. It ends with the last process in it.
pub(super) struct Namespace {
    handle: File,
}

/// Makes a host; its packets are what the device gives and takes.
pub(super) fn create(addr: Ipv4Addr) -> Result<(Namespace, SyncDevice)> {
    // A namespace is of a thread, and so is what is opened in it.
    let made = thread::spawn(move || -> Result<_> {
        unshare(CloneFlags::CLONE_NEWNET).context("no network namespace can be made")?;
        Ok((Namespace { handle: own()? }, device(addr)?))
    });
    made.join().expect("it returns what goes wrong")
}

/// Who is not root becomes it in a user namespace of its own, where that is allowed. Only a process with
/// one thread can.
pub(super) fn become_root() -> Result<()> {
    let (user, group) = (getuid(), getgid());
    if user.is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).context("not root, and no user namespace can be made")?;
    // A group may be mapped only by who can't drop others.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    for (path, content) in maps {
        fs::write(path, content).with_context(|| format!("{path} can't be written"))?;
    }
    Ok(())
}

/// Makes this process a host, before it has other threads: they would stay outside.
pub(super) fn become_one(addr: Ipv4Addr) -> Result<SyncDevice> {
    unshare(CloneFlags::CLONE_NEWNET).context("no network namespace can be made")?;
    device(addr)
}

fn own() -> Result<File> {
    File::open("/proc/thread-self/ns/net").context("the network namespace can't be kept")
}

fn device(addr: Ipv4Addr) -> Result<SyncDevice> {
    let device = DeviceBuilder::new().name(INTERFACE).mtu(MTU).ipv4(addr, PREFIX, None);
    device.build_sync().with_context(|| format!("no interface with the address {addr} can be made"))
}

impl Namespace {
    /// Starts a program there.
    pub(super) fn spawn(&self, mut command: Command) -> Result<Child> {
        let handle = self.handle.try_clone().context("the namespace can't be shared")?;
        let started = thread::spawn(move || -> Result<Child> {
            setns(&handle, CloneFlags::CLONE_NEWNET).context("the namespace can't be entered")?;
            Ok(command.spawn()?)
        });
        started.join().expect("it returns what goes wrong")
    }
}
