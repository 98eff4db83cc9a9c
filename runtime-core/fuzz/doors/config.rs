//! The door for configs: whatever the bytes are, they compile to a plan that keeps
//! every invariant, or to errors of one line each. For each kind of host.

use std::path::PathBuf;

use orlop::bundle::Bundle;
use orlop::cgroup::{Driver, Manager, Properties, Settings};
use orlop::compile::{self, CgroupDir, Options};
use orlop::host::{Cgroups, Hierarchy, HostFacts, IdMappers};
use orlop::{Error, plan};

pub(crate) fn run(data: &[u8]) {
    let parsed = match Bundle::parse(data) {
        Ok(parsed) => parsed,
        Err(error) => return one_line_each(&[error]),
    };
    let spec = &parsed.value;
    let linux = spec.linux().as_ref();
    for host in hosts() {
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let cgroups = match Manager::new(&host, Driver::ByPath, path, "c1") {
            Ok(manager) => manager.groups().into_iter().map(directory).collect(),
            Err(error) => {
                one_line_each(&[error]);
                Vec::new()
            }
        };
        let settings = Settings::for_create(linux, &host, host.rootless());
        let settings = settings.and_then(|mut settings| {
            Properties::for_create(&mut settings, spec.annotations().as_ref(), "c1")
        });
        if let Err(errors) = settings {
            one_line_each(&errors);
        }
        let bundle = PathBuf::from("/bundle");
        let options = Options { id: "c1".into(), bundle, cgroups, ..Options::default() };
        sound(compile::create(spec, &host, &options));
        if let Some(process) = spec.process() {
            sound(compile::exec(process, spec, &host, &options));
        }
    }
}

fn sound(result: Result<plan::Plan, Vec<Error>>) {
    match result {
        Ok(compiled) => assert_eq!(plan::check(&compiled), Ok(()), "{}", plan::text(&compiled)),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            one_line_each(&errors);
        }
    }
}

fn one_line_each(errors: &[Error]) {
    for error in errors {
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
    }
}

fn directory(group: &orlop::cgroup::Group) -> CgroupDir {
    CgroupDir {
        controllers: group.controllers.clone(),
        mount: group.mount.clone(),
        directory: group.directory(),
    }
}

/// Root with cgroup v2, root with both versions, and somebody without either.
fn hosts() -> [HostFacts; 3] {
    let names = |list: &str| list.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let hierarchy = |controllers: &str, mount: &str| Hierarchy {
        controllers: names(controllers).into_iter().filter(|name| !name.is_empty()).collect(),
        mount: mount.into(),
        own: "/".into(),
    };
    let root = HostFacts {
        kernel: (6, 1),
        euid: 0,
        egid: 0,
        capabilities: 0x1ff_ffff_ffff,
        bounding: 0x1ff_ffff_ffff,
        last_capability: 40,
        in_user_namespace: false,
        owns_mounts: true,
        id_mappers: IdMappers::default(),
        setgroups: true,
        cgroups: Cgroups::Unified {
            mount: "/sys/fs/cgroup".into(),
            own: "/".into(),
            controllers: names("cpuset cpu io memory hugetlb pids rdma"),
        },
        apparmor: true,
        selinux: false,
        resctrl: None,
        revealing: Vec::new(),
    };
    let hierarchies = vec![
        hierarchy("cpu cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        hierarchy("memory", "/sys/fs/cgroup/memory"),
        hierarchy("devices", "/sys/fs/cgroup/devices"),
        hierarchy("", "/sys/fs/cgroup/unified"),
    ];
    let hybrid = HostFacts {
        cgroups: Cgroups::Legacy { hierarchies },
        apparmor: false,
        selinux: true,
        ..root.clone()
    };
    let nobody = HostFacts {
        euid: 1000,
        egid: 1000,
        capabilities: 0,
        cgroups: Cgroups::None,
        ..root.clone()
    };
    [root, hybrid, nobody]
}
