//! What the cases of the specification share with other tests.

pub mod cgroups;
pub mod resctrl;
