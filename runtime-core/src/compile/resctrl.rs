//! The class of service in resctrl: what a config may ask of it, and that the process
//! joins it.
//!
//! Does not know where the class is, nor who makes it: that is the caller's.

use super::Context;
use crate::error::Error;
use crate::plan::{Builder, Fill, Op};

const AT: &str = "/linux/intelRdt";

/// COMPAT(runc): the texts, but for those about the form of a schema.
pub(super) fn validate(plan: &mut Builder, context: &Context) {
    let Some(wanted) = context.linux.intel_rdt() else { return };
    let Some(resctrl) = &context.host.resctrl else {
        let what = "intelRdt is specified in config, but Intel RDT is not enabled";
        plan.error(Error::unsupported(AT, what).hint("no resctrl file system is mounted"));
        return;
    };
    if let Some(name) = wanted.clos_id()
        && (name == "." || name == ".." || name != "/" && name.contains('/'))
    {
        let what = format!("invalid intelRdt.ClosID {name:?}");
        plan.error(Error::config(format!("{AT}/closID"), what));
    }
    let given = |schema: &Option<String>| schema.clone().filter(|schema| !schema.is_empty());
    if given(wanted.l3_cache_schema()).is_some() && !resctrl.cache {
        let what =
            "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled";
        plan.error(Error::unsupported(format!("{AT}/l3CacheSchema"), what));
    }
    if let Some(schema) = given(wanted.mem_bw_schema()) {
        let at = format!("{AT}/memBwSchema");
        if !resctrl.bandwidth {
            let what =
                "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled";
            plan.error(Error::unsupported(at, what));
        } else if !schema.starts_with("MB:") || schema.contains('\n') {
            let what = format!("{schema:?} is no line of schemata that begins with \"MB:\"");
            plan.error(Error::config(at, what));
        }
    }
    for (index, schema) in wanted.schemata().iter().flatten().enumerate() {
        if schema.contains('\n') {
            let what = format!("{schema:?} is more than one line of schemata");
            plan.error(Error::config(format!("{AT}/schemata/{index}"), what));
        }
    }
}

/// Where cgroups are joined, and for the same reasons.
pub(super) fn join(plan: &mut Builder, context: &Context) {
    let lists = 0..context.options.resctrl;
    let slots: Vec<u32> = lists.map(|index| plan.slot(Fill::ResctrlTasks { index }).0).collect();
    if slots.is_empty() {
        return;
    }
    let slots = plan.words(&slots);
    plan.push(Op::JoinCgroups { slots }, AT, "joining the class of resctrl");
}
