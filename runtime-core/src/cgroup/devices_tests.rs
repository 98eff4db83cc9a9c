//! The rules as v1's lines: the defaults, the order, what later rules take back, what is refused.

use super::*;

fn rules(json: &str) -> Rules {
    Rules::new(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap(), &[]).unwrap()
}

fn lines(json: &str) -> Vec<String> {
    let line = |(allow, line): (bool, String)| format!("{} {line}", if allow { '+' } else { '-' });
    rules(json).lines().unwrap().into_iter().map(line).collect()
}

fn errors(json: &str) -> Vec<String> {
    let listed: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    let errors = Rules::new(&listed, &[]).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

const USUAL: [&str; 12] = [
    "- a",
    "+ b *:* m",
    "+ c *:* m",
    "+ c 1:3 rwm",
    "+ c 1:5 rwm",
    "+ c 1:7 rwm",
    "+ c 1:8 rwm",
    "+ c 1:9 rwm",
    "+ c 5:0 rwm",
    "+ c 5:2 rwm",
    "+ c 10:200 rwm",
    "+ c 136:* rwm",
];

#[test]
fn the_usual_bundle_gets_the_default_devices() {
    assert_eq!(lines("[]"), USUAL);
    assert_eq!(lines(r#"[{"allow":false,"access":"rwm"}]"#), USUAL);
    // A second rule for a device that has one adds to it.
    let more = lines(r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}]"#);
    assert_eq!(more, USUAL);
}

#[test]
fn a_device_of_the_bundle_takes_its_default_rule_with_it() {
    let device = r#"[{"path":"/dev/null","type":"c","major":9,"minor":9}]"#;
    let devices: Vec<LinuxDevice> = serde_json::from_str(device).unwrap();
    let rules = Rules::new(&[], &devices).unwrap();
    assert!(!rules.permits(Node::Char, 1, 3, READ));
    assert!(rules.permits(Node::Char, 1, 5, READ));
}

#[test]
fn everything_allowed_is_one_line() {
    let all = r#"[{"allow":true,"access":"rwm"}]"#;
    assert_eq!(lines(all), ["+ a"]);
    assert!(rules(all).allow_all());
}

#[test]
fn later_rules_hold() {
    let text = r#"[
        {"allow":true,"access":"rwm"},
        {"allow":false,"type":"b","major":8,"access":"rw"},
        {"allow":true,"type":"b","major":8,"minor":1,"access":"r"}
    ]"#;
    let rules = rules(text);
    assert!(rules.permits(Node::Block, 8, 1, READ));
    assert!(!rules.permits(Node::Block, 8, 1, WRITE));
    assert!(!rules.permits(Node::Block, 8, 1, READ | WRITE));
    assert!(!rules.permits(Node::Block, 8, 2, READ));
    assert!(rules.permits(Node::Block, 8, 2, MKNOD));
    assert!(rules.permits(Node::Block, 9, 2, ALL));
    assert!(rules.permits(Node::Char, 8, 2, ALL));
    // v1 would silently ignore the third rule.
    let error = rules.lines().unwrap_err();
    assert!(error.to_string().contains("\"b 8:1 r\""), "{error}");
}

#[test]
fn a_wider_rule_takes_from_a_narrower_one() {
    let text = r#"[
        {"allow":true,"type":"c","major":10,"minor":203,"access":"rwm"},
        {"allow":false,"type":"c","major":10,"access":"w"}
    ]"#;
    let rules = rules(text);
    assert!(rules.permits(Node::Char, 10, 203, READ));
    assert!(!rules.permits(Node::Char, 10, 203, WRITE));
    let lines: Vec<String> = rules.lines().unwrap().into_iter().map(|(_, line)| line).collect();
    assert!(lines.contains(&"c 10:203 rm".to_owned()), "{lines:?}");
}

#[test]
fn a_rule_without_type_says_no_more_than_it_says() {
    let text = r#"[{"allow":true,"major":10,"minor":203,"access":"r"}]"#;
    let rules = rules(text);
    for node in [Node::Block, Node::Char] {
        assert!(rules.permits(node, 10, 203, READ));
        assert!(!rules.permits(node, 10, 203, WRITE));
        assert!(!rules.permits(node, 10, 204, READ));
    }
}

// COMPAT(runc): other letters say nothing.
#[test]
fn letters_that_are_none_give_nothing() {
    let rules = rules(r#"[{"allow":true,"type":"c","major":10,"minor":203,"access":"rxa"}]"#);
    assert!(rules.permits(Node::Char, 10, 203, READ));
    assert!(!rules.permits(Node::Char, 10, 203, WRITE));
}

#[test]
fn rules_without_sense_are_refused_with_their_place() {
    let table = [
        (r#"[{"allow":true,"type":"c"}]"#, "device access at 0 field cannot be empty", "access"),
        (r#"[{"allow":true,"access":""}]"#, "device access at 0 field cannot be empty", "access"),
        (r#"[{"allow":true,"access":"xa"}]"#, "none of the letters r, w and m", "access"),
        (r#"[{"allow":true,"type":"p","access":"r"}]"#, "invalid cgroup device type \"p\"", "type"),
        (r#"[{"allow":true,"type":"u","access":"r"}]"#, "invalid cgroup device type \"u\"", "type"),
        (r#"[{"allow":true,"major":-2,"access":"r"}]"#, "-2 is not a device number", "major"),
        (
            r#"[{"allow":true,"minor":4294967296,"access":"r"}]"#,
            "4294967296 is not a device number",
            "minor",
        ),
    ];
    for (json, text, field) in table {
        let errors = errors(json);
        assert_eq!(errors.len(), 1, "{json}");
        assert!(errors[0].contains(text), "{json}: {errors:?}");
        let place = format!("/linux/resources/devices/0/{field}");
        assert!(errors[0].contains(&place), "{json}: {errors:?}");
    }
}
