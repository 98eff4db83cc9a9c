//! What somebody outside of the container hears, kept by a thread that listens until the
//! process ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::Story;

/// All of it so far, a record each.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<Value>>>);

impl Heard {
    pub(super) fn add(&self, records: impl IntoIterator<Item = Value>) {
        self.records().extend(records);
    }

    /// Looks at it; some may be on its way for so long.
    pub(super) fn matches(&self, what: &str, pattern: &Value, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let heard = Value::Array(self.records().clone());
            let seen = Story::matches(what, pattern, &heard);
            if seen.is_ok() || begun.elapsed() > patience {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn records(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
