//! What the ends of cases mean, beside the lists of what is known.

use serde::Serialize;

use crate::case::Case;
use crate::crew::Ended;
use crate::known::{Deviation, Skip};
use crate::runtime::{Identity, release};
use crate::worker::Outcome;

/// How a case counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// It passed.
    Passed,
    /// It failed, as listed.
    Known,
    /// It failed; the runtime is older than what it asks for.
    Unsupported,
    /// It can't run here, as listed.
    Skipped,
    /// It failed, or it passed or was skipped against the lists.
    Differs,
}

/// A case with its meaning.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// The case.
    pub(crate) id: String,
    /// What holds when it passes.
    pub(crate) says: String,
    /// The clauses that it checks.
    pub(crate) clauses: Vec<String>,
    /// How it counts.
    pub(crate) mark: Mark,
    /// Why, in words; empty if it passed.
    pub(crate) reason: String,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// What is expected of whom and where.
#[derive(Debug)]
pub(crate) struct Lists<'a> {
    /// The runtime.
    pub(crate) identity: &'a Identity,
    /// The kind of host.
    pub(crate) host: &'a str,
    /// The lists.
    pub(crate) deviations: &'a [Deviation],
    /// The lists.
    pub(crate) skips: &'a [Skip],
}

impl Lists<'_> {
    /// What the end of a case means.
    pub(crate) fn judge(&self, case: &Case, ended: &Ended) -> Verdict {
        let (mark, reason) = self.weigh(case, &ended.outcome);
        Verdict {
            id: case.id.clone(),
            says: case.says.clone(),
            clauses: case.clauses.clone(),
            mark,
            reason,
            seconds: ended.seconds,
        }
    }

    fn weigh(&self, case: &Case, outcome: &Outcome) -> (Mark, String) {
        let known = self.deviation(&case.id, outcome);
        let older = release(&self.identity.spec) < release(&case.since);
        match outcome {
            Outcome::Passed => match known {
                Some(known) => (Mark::Differs, format!("passed, but listed: {}", known.why)),
                None => (Mark::Passed, String::new()),
            },
            Outcome::Failed(seen) => match known {
                Some(known) => (Mark::Known, format!("{} ({}): {seen}", known.why, known.clause)),
                None if older => {
                    let (since, spec) = (&case.since, &self.identity.spec);
                    (Mark::Unsupported, format!("asks for {since}, the runtime has {spec}: {seen}"))
                }
                None => (Mark::Differs, seen.clone()),
            },
            Outcome::Skipped(why) if self.is_skip(&case.id, why) => (Mark::Skipped, why.clone()),
            Outcome::Skipped(why) => (Mark::Differs, format!("skipped, but not listed: {why}")),
        }
    }

    fn deviation(&self, case: &str, outcome: &Outcome) -> Option<&Deviation> {
        self.deviations.iter().find(|known| {
            let named = known.cases.iter().any(|one| one == case);
            let shows = match (&known.sometimes, outcome) {
                (None, _) => named,
                (Some(start), Outcome::Failed(seen)) => seen.starts_with(start.as_str()),
                (Some(_), _) => false,
            };
            shows
                && known.runtime == self.identity.name
                && self.identity.version.starts_with(&known.version)
                && (known.hosts.is_empty() || known.hosts.iter().any(|host| host == self.host))
        })
    }

    fn is_skip(&self, case: &str, why: &str) -> bool {
        self.skips.iter().any(|skip| {
            skip.hosts.iter().any(|host| host == self.host)
                && skip.why == why
                && skip.cases.iter().any(|one| one == case)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { name: "runx".into(), version: "1.1.5+x".into(), spec: "1.0.2-dev".into() }
    }

    fn case(since: &str) -> Case {
        let text = format!(r#"{{"id": "a/b", "says": "", "clauses": [], "since": "{since}"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn weigh(known: bool, since: &str, outcome: &Outcome) -> Mark {
        let deviation = Deviation {
            runtime: "runx".into(),
            version: if known { "1.1" } else { "1.2" }.into(),
            cases: vec!["a/b".into()],
            sometimes: None,
            clause: "c".into(),
            why: "old".into(),
            hosts: vec![],
        };
        let skip = Skip { hosts: vec!["v2".into()], why: "no".into(), cases: vec!["a/b".into()] };
        let identity = identity();
        let lists =
            Lists { identity: &identity, host: "v2", deviations: &[deviation], skips: &[skip] };
        lists.weigh(&case(since), outcome).0
    }

    #[test]
    fn a_race_of_the_runtime_is_known_when_it_shows_and_not_missed() {
        let race = Deviation {
            runtime: "runx".into(),
            version: "1.1".into(),
            cases: vec![],
            sometimes: Some("left behind: cgroup".into()),
            clause: "c".into(),
            why: "leaves it".into(),
            hosts: vec![],
        };
        let identity = identity();
        let lists = Lists { identity: &identity, host: "v2", deviations: &[race], skips: &[] };
        let weigh = |outcome| lists.weigh(&case("1.0.0"), &outcome).0;
        assert_eq!(weigh(Outcome::Failed("left behind: cgroup /x".into())), Mark::Known);
        assert_eq!(weigh(Outcome::Failed("left behind: mount /x".into())), Mark::Differs);
        assert_eq!(weigh(Outcome::Passed), Mark::Passed);
    }

    #[test]
    fn what_the_lists_expect_is_no_difference() {
        let failed = Outcome::Failed("bad".into());
        assert_eq!(weigh(true, "1.0.0", &failed), Mark::Known);
        assert_eq!(weigh(false, "1.0.0", &failed), Mark::Differs);
        assert_eq!(weigh(false, "1.1.0", &failed), Mark::Unsupported);
        assert_eq!(weigh(false, "1.0.0", &Outcome::Passed), Mark::Passed);
        assert_eq!(weigh(true, "1.0.0", &Outcome::Passed), Mark::Differs);
        assert_eq!(weigh(false, "1.0.0", &Outcome::Skipped("no".into())), Mark::Skipped);
        assert_eq!(weigh(false, "1.0.0", &Outcome::Skipped("other".into())), Mark::Differs);
    }
}
