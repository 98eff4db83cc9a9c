//! The shim's command line, in the manner of Go's flag package: `-name value`,
//! `-name=value`, one dash or two, and then what is to be done.

use anyhow::{Result, bail};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub namespace: String,
    pub id: String,
    /// containerd's own socket.
    pub address: String,
    pub bundle: String,
    pub debug: bool,
    pub info: bool,
    pub version: bool,
    /// `start` or `delete`.
    pub action: String,
}

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self::default();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                args.action = word;
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, given) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let switch = match name {
                "debug" => Some(&mut args.debug),
                "info" => Some(&mut args.info),
                "v" | "version" => Some(&mut args.version),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = given.is_none_or(|value| matches!(&*value, "true" | "1" | "t"));
                continue;
            }
            let Some(value) = given.or_else(|| words.next()) else {
                bail!("flag needs an argument: -{name}");
            };
            match name {
                "namespace" => args.namespace = value,
                "id" => args.id = value,
                "address" => args.address = value,
                "bundle" => args.bundle = value,
                // Events go by ttrpc, and the socket is inherited.
                "publish-binary" | "socket" => {}
                _ => bail!("flag provided but not defined: -{name}"),
            }
        }
        Ok(args)
    }
}
