//! `stage`: the init stage as a file, for hosts that execute no memfds.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;
use orlop::launch::STAGE;
use orlop::{Error, Kind};

use super::Call;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to write it; /usr/libexec/orlop/init is where it is looked for
    #[arg(value_name = "FILE", default_value = "/usr/libexec/orlop/init")]
    file: PathBuf,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { file } = call.parse()?;
    let failed = |error| Error::io(&error, "writing the init stage").at_path(&file);
    if fs::symlink_metadata(&file).is_ok_and(|found| !found.is_file()) {
        let words = "the init stage can't take the place of what is no regular file";
        return Err(Error::new(Kind::InvalidConfig, words).at_path(&file).into());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Never in place: a container's init may be running from it.
    let draft = file.with_extension("new");
    let options =
        fs::File::options().write(true).create(true).truncate(true).mode(0o755).open(&draft);
    let written = options.and_then(|mut file| file.write_all(STAGE));
    let written = written.and_then(|()| fs::rename(&draft, &file));
    if written.is_err() {
        // Not of use to anybody.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(failed)?;
    Ok(0)
}
