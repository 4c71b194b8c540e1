//! A policy and what happens under it: drawn at random, or kept as text because the readings once differed.
//!
//! The text is JSON, one event a line. It names what the test looks at and nothing else of the model, so that
//! it stays valid when generators and model change.

use clinigate::oracle::LinkFrame;
use clinigate::oracle::packet::Packet;
use clinigate::policy::model::Policy;
use clinigate::testing::defects::Defect;
use clinigate::testing::packets::Port;
use clinigate::testing::script::Event;
use serde::{Deserialize, Serialize};

use crate::sketch::Sketch;

/// A policy and what happens under it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What differed.
    pub(crate) about: String,
    pub(crate) policy: Policy,
    pub(crate) events: Vec<Event>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    about: String,
    policy: Sketch,
    events: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Packet {
        port: Port,
        #[serde(default)]
        sender: u16,
        #[serde(default)]
        dress: u8,
        packet: Packet,
    },
    Link {
        port: Port,
        #[serde(default)]
        sender: u16,
        frame: LinkFrame,
    },
    Defect {
        port: Port,
        defect: Defect,
        packet: Packet,
    },
    Send(Packet),
    Wait(u64),
    Change(Sketch),
}

impl Case {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Text { about, policy, events } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let event = |line| {
            Ok(match line {
                Line::Packet { port, sender, dress, packet } => Event::Packet { port, sender, dress, packet },
                Line::Link { port, sender, frame } => Event::Link { port, sender, frame },
                Line::Defect { port, defect, packet } => Event::Defect { port, defect, packet },
                Line::Send(packet) => Event::Send(packet),
                Line::Wait(nanoseconds) => Event::Wait(nanoseconds),
                Line::Change(sketch) => Event::Change(Box::new(sketch.policy()?)),
            })
        };
        let events: Result<_, String> = events.into_iter().map(event).collect();
        Ok(Self { about, policy: policy.policy()?, events: events? })
    }

    pub(crate) fn text(&self) -> String {
        let line = |event: &Event| match event.clone() {
            Event::Packet { port, sender, dress, packet } => Line::Packet { port, sender, dress, packet },
            Event::Link { port, sender, frame } => Line::Link { port, sender, frame },
            Event::Defect { port, defect, packet } => Line::Defect { port, defect, packet },
            Event::Send(packet) => Line::Send(packet),
            Event::Wait(nanoseconds) => Line::Wait(nanoseconds),
            Event::Change(policy) => Line::Change(Sketch::of(&policy)),
        };
        let json = |line: Line| serde_json::to_string(&line).unwrap();
        let events: Vec<String> = self.events.iter().map(|event| json(line(event))).collect();
        let about = serde_json::to_string(&self.about).unwrap();
        let policy = Sketch::of(&self.policy).text();
        format!("{{\"about\": {about},\n\"policy\": {policy},\n\"events\": [\n{}\n]}}\n", events.join(",\n"))
    }
}
