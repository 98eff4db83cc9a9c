//! Commands that take a pattern in the place of an id, and act on every container that
//! it matches.

use anyhow::{anyhow, bail, ensure};
use regex::Regex;

use super::Call;

/// Does `act` with every id that `pattern` matches somewhere; none is fine. What fails
/// keeps nothing from the others.
pub(super) fn each(
    call: &Call,
    pattern: &str,
    act: impl Fn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // From a variable that was not set, most likely.
    ensure!(!pattern.is_empty(), "the pattern is empty: say \".\" for every container");
    let pattern = Regex::new(pattern).map_err(|error| {
        // It shows the pattern in lines of its own, and says last what is wrong.
        let text = error.to_string();
        let what = text.lines().last().unwrap_or_default();
        anyhow!("the pattern {pattern:?}: {}", what.trim_start_matches("error: "))
    })?;
    let ids = call.store()?.ids()?;
    let ids: Vec<_> = ids.iter().filter(|id| pattern.is_match(id)).collect();
    let failures: Vec<_> = ids
        .iter()
        .filter_map(|id| act(id).err().map(|error| format!("container {id:?}: {error:#}")))
        .collect();
    let Some((last, others)) = failures.split_last() else { return Ok(()) };
    others.iter().for_each(|failure| log::warn!("{failure}"));
    bail!("{} of {} containers failed: {last}", failures.len(), ids.len());
}
