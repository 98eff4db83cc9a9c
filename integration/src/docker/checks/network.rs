//! Networks. "The host" here is the network namespace of the engine.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};

use super::shell;
use crate::command;
use crate::docker::container::Container;
use crate::docker::daemon::Daemon;
use crate::engine::{PATIENCE, same};

/// Answers each connection with what it was sent, in capitals.
const SERVER: &str = "use IO::Socket::INET; \
     my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die $!; \
     $| = 1; print \"listening\\n\"; \
     while (my $c = $s->accept) { my $l = <$c>; print $c uc $l; close $c; }";

fn ask(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim().to_owned())
}

pub(super) fn host(daemon: &Daemon) -> Result<()> {
    let container = Container::start(daemon, &["--network", "host"], &["perl", "-e", SERVER])?;
    let ours = fs::read_link("/proc/self/ns/net")?;
    same("the network namespace", &container.namespace("net")?, &ours.to_string_lossy())?;
    container.wait_for_log("listening")?;
    same("the answer", &ask(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)))?, "HELLO")
}

pub(super) fn none(daemon: &Daemon) -> Result<()> {
    let script = "awk -F: 'NR > 2 { print $1 }' /proc/net/dev; wc -l < /proc/net/route; \
                  perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, \
                  LocalAddr => \"127.0.0.1\", LocalPort => 99) or die; \
                  IO::Socket::INET->new(\"127.0.0.1:99\") or die; print \"loopback\\n\"'";
    let output = shell(daemon, &["--network", "none"], script)?.success()?;
    let words: Vec<&str> = output.split_whitespace().filter(|word| *word != "1").collect();
    let real: Vec<&str> = words.iter().copied().filter(|word| word.starts_with("eth")).collect();
    ensure!(real.is_empty(), "there is an interface: {output:?}");
    ensure!(words.contains(&"lo") && words.contains(&"loopback"), "no loopback: {output:?}");
    Ok(())
}

pub(super) fn bridge(daemon: &Daemon) -> Result<()> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let publish = format!("{port}:8000");
    let container = Container::start(daemon, &["--publish", &publish], &["perl", "-e", SERVER])?;
    container.wait_for_log("listening")?;
    let published = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = command::until(PATIENCE, || ask(published).is_ok_and(|answer| answer == "HELLO"));
    ensure!(answers, "the published port does not answer: {:?}", ask(published));
    let address = container.inspect("{{.NetworkSettings.IPAddress}}")?;
    let direct = SocketAddr::new(address.parse().context("the container's address")?, 8000);
    same("the answer over the bridge", &ask(direct)?, "HELLO")?;
    // From one container to the other, which also has a name for itself.
    let script = format!(
        "exec 3<>/dev/tcp/{address}/8000; echo between >&3; cat <&3; \
         grep -c \"$(cat /proc/sys/kernel/hostname)\" /etc/hosts"
    );
    let program = ["run", "--rm", crate::docker::daemon::IMAGE, "bash", "-c", &script];
    same("the answer to a container", &daemon.must(&program)?, "BETWEEN\n1")
}
