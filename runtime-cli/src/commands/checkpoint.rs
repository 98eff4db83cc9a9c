//! `checkpoint`: the processes of a container are saved, and end.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use orlop::container::CheckpointOptions;

use super::Call;
use super::images::Images;
use crate::foreground::Foreground;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    images: Images,
    /// Images of an earlier --pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Leave out TCP connections that are being established
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Give removed files a name again where that is possible
    #[arg(long)]
    link_remap: bool,
    /// Write a zero byte here when lazy pages can be fetched
    #[arg(long, value_name = "FD", default_value_t = -1, hide_default_value = true)]
    status_fd: i32,
    /// Where pages are sent to, or fetched from with --lazy-pages
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "", hide_default_value = true)]
    page_server: String,
    /// Save the memory alone, and let the container go on
    #[arg(long)]
    pre_dump: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let arguments: Arguments = call.parse()?;
    let foreground = Foreground::new()?;
    let container = call.open(&arguments.id)?.interrupted_by(foreground.interrupt()?);
    container.checkpoint(CheckpointOptions {
        criu: arguments.images.options()?,
        parent_path: arguments.parent_path,
        leave_running: arguments.leave_running,
        tcp_skip_in_flight: arguments.tcp_skip_in_flight,
        link_remap: arguments.link_remap,
        status_fd: (arguments.status_fd != -1).then_some(arguments.status_fd),
        page_server: page_server(&arguments.page_server)?,
        pre_dump: arguments.pre_dump,
    })?;
    Ok(0)
}

/// COMPAT(runc): both texts; an IPv6 address is in brackets.
fn page_server(text: &str) -> anyhow::Result<Option<(String, u16)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (address, port) = text.rsplit_once(':').unwrap_or_default();
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.unwrap_or(address).is_empty()
        || port.is_empty()
        || bare.is_none() && address.contains(':')
    {
        bail!("Use --page-server ADDRESS:PORT to specify page server");
    }
    let port = port.parse().context("Invalid port number")?;
    Ok(Some((bare.unwrap_or(address).to_owned(), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let read = |text| page_server(text).ok().flatten();
        assert_eq!(read("0.0.0.0:27277"), Some(("0.0.0.0".into(), 27277)));
        assert_eq!(read("[::1]:1"), Some(("::1".into(), 1)));
        for wrong in ["x", ":1", "a:", "::1:2", "a:b", "a:70000", "[]:1"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
        assert_eq!(page_server("").unwrap(), None);
    }
}
