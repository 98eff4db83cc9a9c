//! Whatever a config says, the compiler answers with a plan that keeps every
//! invariant or with errors of one line each; it never panics.
//!
//! Configs are made by laying patches over the base: each a plausible or absurd
//! value of one field, so that combinations come up that nobody would write.

mod fixture;

use orlop::bundle::Bundle;
use orlop::{compile, plan};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const CAPABILITIES: &[&str] =
    &["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_NET_RAW", "CAP_BOGUS"];
const KINDS: &[&str] = &["pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time"];
const LIMITS: &[&str] = &["RLIMIT_NOFILE", "RLIMIT_CPU", "RLIMIT_CORE"];
const SYSCTLS: &[&str] = &[
    "net.ipv4.ip_forward",
    "kernel.shmmax",
    "kernel.domainname",
    "fs.mqueue.msg_max",
    "vm.swappiness",
    "net/../x",
    "",
];

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![16 => 0..3_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&["", "/", "/srv", "sh", "a=b", "HOME=", "=", "PATH=:", "..", "x\u{0}y"][..])
            .prop_map(str::to_owned),
        1 => "\\PC{0,20}",
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn namespaces() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        9 => Just(Value::Null),
        1 => select(&["/proc/7/ns/x", "", "relative"][..]).prop_map(Value::from)
    ];
    let listed = subsequence(KINDS, 0..=KINDS.len())
        .prop_flat_map(move |kinds| {
            let paths = prop::collection::vec(path.clone(), kinds.len());
            (Just(kinds), paths)
        })
        .prop_map(|(kinds, paths)| {
            let pairs = kinds.into_iter().zip(paths);
            pairs.map(|(kind, path)| json!({"type": kind, "path": path})).collect::<Vec<_>>()
        });
    (listed, prop::bool::weighted(0.9)).prop_map(|(mut list, whole)| {
        if whole {
            list.retain(|namespace| namespace["type"] != "mount");
            list.push(json!({"type": "mount"}));
        }
        json!({"linux": {"namespaces": list}})
    })
}

fn mappings() -> impl Strategy<Value = Value> {
    let one = (id(), id(), prop_oneof![Just(1_u32), Just(65_536), any::<u32>()]).prop_map(
        |(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}),
    );
    let list = prop_oneof![
        2 => Just(vec![json!({"containerID": 0, "hostID": 1000, "size": 1})]),
        2 => Just(vec![json!({"containerID": 0, "hostID": 100_000, "size": 65_536})]),
        1 => prop::collection::vec(one, 0..4)
    ];
    (list.clone(), list)
        .prop_map(|(uid, gid)| json!({"linux": {"uidMappings": uid, "gidMappings": gid}}))
}

fn user() -> impl Strategy<Value = Value> {
    let groups = prop::collection::vec(id(), 0..3);
    (id(), id(), groups, any::<Option<u32>>()).prop_map(|(uid, gid, groups, umask)| {
        let umask = umask.map(|umask| umask & 0o1777);
        json!({"process": {"user":
            {"uid": uid, "gid": gid, "additionalGids": groups, "umask": umask}}})
    })
}

fn capabilities() -> impl Strategy<Value = Value> {
    let set = subsequence(CAPABILITIES, 0..=CAPABILITIES.len());
    prop::collection::vec(set, 5).prop_map(|sets| {
        json!({"process": {"capabilities": {"bounding": sets[0], "permitted": sets[1],
            "effective": sets[2], "inheritable": sets[3], "ambient": sets[4]}}})
    })
}

fn strings() -> impl Strategy<Value = Value> {
    let plausible = prop::bool::weighted(0.5);
    (plausible, texts(), texts(), text(), text(), text()).prop_map(|strings| {
        let (plausible, mut args, mut env, mut cwd, host, label) = strings;
        if plausible {
            args.insert(0, "sh".into());
            args.retain(|arg| !arg.contains('\0'));
            env.retain(|entry| entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0'));
            cwd = "/srv".into();
        }
        let (host, label) = if plausible { (String::new(), String::new()) } else { (host, label) };
        json!({"process": {"args": args, "env": env, "cwd": cwd, "apparmorProfile": label},
               "hostname": host})
    })
}

fn numbers() -> impl Strategy<Value = Value> {
    let limit = (select(LIMITS), 0..100_u8, 50..200_u8)
        .prop_map(|(kind, soft, hard)| json!({"type": kind, "soft": soft, "hard": hard}));
    let limits = prop::collection::vec(limit, 0..2);
    let size = prop_oneof![9 => 0..200_u64, 1 => any::<u64>()];
    (-1020..1020_i32, limits, size, any::<bool>(), any::<bool>()).prop_map(
        |(score, limits, size, terminal, privileges)| {
            json!({"process": {"oomScoreAdj": score, "rlimits": limits, "terminal": terminal,
                "consoleSize": {"height": size, "width": 80}, "noNewPrivileges": privileges}})
        },
    )
}

fn scheduling() -> impl Strategy<Value = Value> {
    let policy = select(&["SCHED_OTHER", "SCHED_FIFO", "SCHED_FIFO", "SCHED_DEADLINE"][..]);
    let list = select(&["0", "0-3,7", "1,2", "64-70", "3-1"][..]);
    let mode = select(&["MPOL_DEFAULT", "MPOL_BIND", "MPOL_LOCAL"][..]);
    (policy, -21..20_i32, 0..100_i32, list, mode).prop_map(|(policy, nice, level, list, mode)| {
        json!({"process": {"scheduler": {"policy": policy, "nice": nice, "priority": level},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": level % 8},
                "execCPUAffinity": {"initial": list, "final": list}},
            "linux": {"memoryPolicy": {"mode": mode, "nodes": list}}})
    })
}

fn kernel() -> impl Strategy<Value = Value> {
    let key = prop_oneof![3 => select(SYSCTLS).prop_map(str::to_owned), 1 => "[a-z./~]{0,12}"];
    let sysctls = prop::collection::hash_map(key, text(), 0..3);
    let offsets = prop_oneof![
        Just(Value::Null),
        (any::<i64>(), any::<u32>())
            .prop_map(|(s, n)| json!({"boottime": {"secs": s, "nanosecs": n}})),
    ];
    (sysctls, offsets)
        .prop_map(|(sysctl, offsets)| json!({"linux": {"sysctl": sysctl, "timeOffsets": offsets}}))
}

fn seccomp() -> impl Strategy<Value = Value> {
    let action = select(&["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"][..]);
    let path = select(&["/run/agent", "x", ""][..]);
    (action, path).prop_map(|(action, path)| {
        json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": path,
            "syscalls": [{"names": ["read", "write", "mkdir"], "action": "SCMP_ACT_ALLOW"},
                         {"names": ["mkdirat"], "action": action}]}}})
    })
}

fn hooks() -> impl Strategy<Value = Value> {
    let hook = (
        prop_oneof![15 => Just("/bin/h"), 1 => select(&["h", ""][..])],
        prop_oneof![9 => Just(None), 9 => (1..99_i64).prop_map(Some), 1 => any::<i64>().prop_map(Some)],
        texts(),
    )
        .prop_map(|(path, timeout, args)| json!({"path": path, "timeout": timeout, "args": args}));
    let list = prop::collection::vec(hook, 0..3);
    prop::collection::vec(list, 3).prop_map(|lists| {
        json!({"hooks": {"createRuntime": lists[0], "createContainer": lists[1],
            "startContainer": lists[2], "poststop": lists[0]}})
    })
}

fn config() -> impl Strategy<Value = Value> {
    let patches: Vec<BoxedStrategy<Value>> = vec![
        namespaces().boxed(),
        mappings().boxed(),
        user().boxed(),
        capabilities().boxed(),
        strings().boxed(),
        numbers().boxed(),
        scheduling().boxed(),
        kernel().boxed(),
        seccomp().boxed(),
        hooks().boxed(),
    ];
    let some =
        patches.into_iter().map(|patch| prop::option::weighted(0.3, patch)).collect::<Vec<_>>();
    some.prop_map(|patches| {
        let mut config = fixture::base();
        patches.iter().flatten().for_each(|patch| fixture::merge(&mut config, patch));
        config
    })
}

fn host() -> impl Strategy<Value = Value> {
    (select(&["none", "unified", "hybrid"][..]), any::<bool>(), any::<bool>(), any::<u64>())
        .prop_map(|(cgroups, root, lsm, bounding)| {
            let mut host = json!({"cgroups": cgroups, "apparmor": lsm, "bounding": bounding});
            if !root {
                fixture::merge(&mut host, &json!({"euid": 1000, "egid": 1000, "capabilities": 0}));
            }
            host
        })
}

fn options() -> impl Strategy<Value = Value> {
    (any::<bool>(), 0..4_u32)
        .prop_map(|(cgroups, preserve)| json!({"cgroups": cgroups, "preserve_fds": preserve}))
}

fn one_line_each(errors: &[orlop::Error]) {
    assert!(!errors.is_empty(), "refused without a reason");
    for error in errors {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_config_gives_a_sound_plan_or_errors(
        config in config(), host in host(), options in options(),
    ) {
        let bytes = config.to_string();
        let parsed = match Bundle::parse(bytes.as_bytes()) {
            Ok(parsed) => parsed,
            Err(error) => {
                one_line_each(&[error]);
                return Ok(());
            }
        };
        let host = fixture::host(Some(&host));
        let options = fixture::options(&host, Some(&options));
        let spec = &parsed.value;
        match compile::create(spec, &host, &options) {
            Ok(compiled) => {
                prop_assert_eq!(plan::check(&compiled), Ok(()), "{}", plan::text(&compiled));
                // The order of a hash map must not show.
                let again = compile::create(spec, &host, &options).expect("it compiled before");
                prop_assert_eq!(plan::text(&compiled), plan::text(&again));
            }
            Err(errors) => one_line_each(&errors),
        }
        if let Some(process) = spec.process() {
            match compile::exec(process, spec, &host, &options) {
                Ok(compiled) => {
                    prop_assert_eq!(plan::check(&compiled), Ok(()), "{}", plan::text(&compiled));
                }
                Err(errors) => one_line_each(&errors),
            }
        }
    }
}

/// The property above would hold for a compiler that refuses everything.
#[test]
fn enough_of_the_configs_compile() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let host = fixture::host(None);
    let options = fixture::options(&host, None);
    let compiles = |runner: &mut proptest::test_runner::TestRunner| {
        let config = config().new_tree(runner).expect("a config").current().to_string();
        Bundle::parse(config.as_bytes())
            .is_ok_and(|parsed| compile::create(&parsed.value, &host, &options).is_ok())
    };
    let good = (0..1000).filter(|_| compiles(&mut runner)).count();
    assert!((100..900).contains(&good), "{good} of 1000 compile");
}
