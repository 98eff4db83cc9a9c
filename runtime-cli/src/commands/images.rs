//! What `checkpoint` and `restore` have in common: the flags that CRIU is told alike.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use orlop::container::{CgroupMode, CriuOptions, NetworkLock};

/// The flags of both commands.
#[derive(Debug, Args)]
pub(super) struct Images {
    /// Where the images are [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Where CRIU works and writes its log [default: the images' directory]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Close established TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// Allow unix sockets whose other end is outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a job of a shell, whose terminal is outside
    #[arg(long)]
    shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    file_locks: bool,
    /// Move memory only when it is needed
    #[arg(long)]
    lazy_pages: bool,
    /// What CRIU does with cgroups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true)]
    manage_cgroups_mode: String,
    /// Make this namespace, but nothing in it: network
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Free pages of earlier images that later ones have too
    #[arg(long)]
    auto_dedup: bool,
    /// How connections are held meanwhile: iptables, nftables or skip
    #[arg(long, value_name = "METHOD", default_value = "", hide_default_value = true)]
    network_lock: String,
}

impl Images {
    /// The same for the library.
    pub(super) fn options(self) -> anyhow::Result<CriuOptions> {
        // The network is never CRIU's to fill: the flag has nothing to add.
        if let Some(other) = self.empty_ns.iter().find(|name| *name != "network") {
            // COMPAT(runc): its words.
            bail!("namespace {other:?} is not supported");
        }
        Ok(CriuOptions {
            image_path: absolute(self.image_path.unwrap_or_else(|| "checkpoint".into()))?,
            work_path: self.work_path.map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            tcp_close: self.tcp_close,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroups: match &*self.manage_cgroups_mode {
                "" => None,
                "soft" => Some(CgroupMode::Soft),
                "full" => Some(CgroupMode::Full),
                "strict" => Some(CgroupMode::Strict),
                "ignore" => Some(CgroupMode::Ignore),
                // COMPAT(runc): its words.
                _ => bail!("invalid manage-cgroups-mode value"),
            },
            network_lock: match &*self.network_lock {
                "" => None,
                "iptables" => Some(NetworkLock::Iptables),
                "nftables" => Some(NetworkLock::Nftables),
                "skip" => Some(NetworkLock::Skip),
                other => bail!("--network-lock {other:?} is neither iptables, nftables nor skip"),
            },
        })
    }
}

/// For an error that names the log, whoever reads it.
fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
