//! Words that a blind change seldom hits upon.

use clinigate::policy::{catalogue, schema, tests_schema};
use serde_json::Value;

/// The keys and fixed values of policy text, out of its schemas; what YAML is made of.
pub fn policy_text() -> Vec<Vec<u8>> {
    let mut words: Vec<String> = catalogue::builtin().into_iter().map(|service| service.name).collect();
    for schema in [schema(), tests_schema()] {
        collect(&schema.to_value(), &mut words);
    }
    words.extend(YAML.map(str::to_owned));
    words.extend(ADDRESSES.map(str::to_owned));
    words.sort();
    words.dedup();
    words.into_iter().map(String::into_bytes).collect()
}

const YAML: [&str; 12] =
    ["&a ", "*a", "<<: ", "!!str ", "---\n", "- {", "\n  - ", ": [", "}, ", "null", "true", "\"\\x00\""];

const ADDRESSES: [&str; 12] = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "fd00::/64",
    "10.10.40.1-10.10.40.9",
    "::ffff:10.0.0.1",
    "tcp/1-65535",
    "udp/53",
    "icmp/8",
    "icmpv6/any",
    "proto/50",
    "zone/clinical",
];

/// Names of properties and values of enumerations.
fn collect(schema: &Value, words: &mut Vec<String>) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        words.extend(properties.keys().map(|key| format!("{key}: ")));
                    }
                    ("enum", Value::Array(values)) => {
                        words.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    ("const", Value::String(value)) => words.push(value.clone()),
                    _ => {}
                }
                collect(value, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        _ => {}
    }
}

/// What stands in command lines and on the control socket.
pub fn words() -> Vec<Vec<u8>> {
    let words = [
        "tcp ",
        "udp ",
        "icmp/",
        "icmpv6/",
        "proto/",
        " -> ",
        " arriving on ",
        " with VLAN ",
        " with VLANs ",
        " and ",
        "\"request\":",
        "\"reply\":",
        "\"dir\":",
        "\"kind\":",
        "\"change\":",
        "\"status\":",
        "zone/",
        "any",
        "wan",
        "gateway",
        "multicast",
    ];
    words.map(|word| word.as_bytes().to_vec()).to_vec()
}

/// What begins a capture or a block of one; EtherTypes.
pub fn capture() -> Vec<Vec<u8>> {
    let magics: [&[u8]; 10] = [
        &[0xd4, 0xc3, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0xc3, 0xd4],
        &[0x4d, 0x3c, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0xcd, 0x34],
        &[0x0a, 0x0d, 0x0d, 0x0a],
        &[0x4d, 0x3c, 0x2b, 0x1a],
        &[0x1a, 0x2b, 0x3c, 0x4d],
        &[6, 0, 0, 0, 32, 0, 0, 0],
        &[3, 0, 0, 0, 16, 0, 0, 0],
        &[5, 0, 0, 0],
    ];
    magics.into_iter().map(<[u8]>::to_vec).chain(frames()).collect()
}

/// What tells the kinds of headers apart.
pub fn frames() -> Vec<Vec<u8>> {
    let headers: [&[u8]; 10] = [
        &[0x81, 0],
        &[0x88, 0xa8],
        &[0x08, 0],
        &[0x86, 0xdd],
        &[0x08, 0x06],
        &[0x45, 0, 0],
        &[0x60, 0, 0, 0],
        &[0x2c, 0, 0, 0],
        &[0x20, 0, 64, 6],
        &[0xfe, 0x80, 0, 0],
    ];
    headers.into_iter().map(<[u8]>::to_vec).collect()
}

/// The same.
pub fn frames_kernel() -> Vec<Vec<u8>> {
    frames()
}
