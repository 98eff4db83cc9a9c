//! The kill sweep of an account: with a delegated cgroup where there is v2 alone,
//! without any where there is not, and with scopes of its own manager.

use super::account::Account;
use super::cgroups::Delegated;
use crate::harness::{Bundle, Lab, Test, tests};
use crate::sweep::Step::{Create, Delete, Exec, Run, Start};
use crate::sweep::Victim::{Parent, Stage};
use crate::sweep::{Caller, Step, Victim, sweep_by};

/// Where the runtime makes the cgroups.
pub(super) const FOLDERS: &[Test] = tests![
    create_is_killed,
    create_with_ranges_is_killed,
    run_is_killed,
    start_is_killed,
    exec_is_killed,
    delete_is_killed,
    the_stage_of_run_is_killed,
    the_stage_of_exec_is_killed,
];

/// Where systemd makes the cgroups.
pub(super) const SCOPES: &[Test] = tests![
    create_in_a_scope_is_killed,
    run_in_a_scope_is_killed,
    exec_in_a_scope_is_killed,
    delete_in_a_scope_is_killed,
    the_stage_of_run_in_a_scope_is_killed,
];

fn sweep_of(lab: &Lab, account: &Account<'_>, bundle: Bundle, what: (Step, Victim)) {
    let caller = Caller { user: account.id, runtime: &|arguments| account.command(arguments) };
    sweep_by(lab, caller, bundle, what);
}

fn sweep(lab: &Lab, step: Step, victim: Victim) {
    let _delegated = Delegated::new(lab);
    let account = Account::new(lab);
    sweep_of(lab, &account, account.bundle(&["sleep"]), (step, victim));
}

fn sweep_in_a_scope(lab: &Lab, step: Step, victim: Victim) {
    let account = Account::with_session(lab);
    sweep_of(lab, &account, account.bundle(&["sleep"]), (step, victim));
}

fn create_is_killed(lab: &Lab) {
    sweep(lab, Create, Parent);
}

/// What newuidmap and newgidmap do goes on without the runtime.
fn create_with_ranges_is_killed(lab: &Lab) {
    let _delegated = Delegated::new(lab);
    let account = Account::with_ranges(lab);
    let bundle = account.bundle_with_ranges(&["sleep"]);
    sweep_of(lab, &account, bundle, (Create, Parent));
}

fn run_is_killed(lab: &Lab) {
    sweep(lab, Run, Parent);
}

fn start_is_killed(lab: &Lab) {
    sweep(lab, Start, Parent);
}

fn exec_is_killed(lab: &Lab) {
    sweep(lab, Exec, Parent);
}

fn delete_is_killed(lab: &Lab) {
    sweep(lab, Delete, Parent);
}

fn the_stage_of_run_is_killed(lab: &Lab) {
    sweep(lab, Run, Stage);
}

fn the_stage_of_exec_is_killed(lab: &Lab) {
    sweep(lab, Exec, Stage);
}

fn create_in_a_scope_is_killed(lab: &Lab) {
    sweep_in_a_scope(lab, Create, Parent);
}

fn run_in_a_scope_is_killed(lab: &Lab) {
    sweep_in_a_scope(lab, Run, Parent);
}

fn exec_in_a_scope_is_killed(lab: &Lab) {
    sweep_in_a_scope(lab, Exec, Parent);
}

fn delete_in_a_scope_is_killed(lab: &Lab) {
    sweep_in_a_scope(lab, Delete, Parent);
}

fn the_stage_of_run_in_a_scope_is_killed(lab: &Lab) {
    sweep_in_a_scope(lab, Run, Stage);
}
