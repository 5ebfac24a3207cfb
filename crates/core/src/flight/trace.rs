//! A recording as a file that <https://ui.perfetto.dev> opens: Chrome's trace event format, in JSON.
//!
//! JSON and not Perfetto's own protobuf: both carry slices, lanes and arrows; this one `jq`, a browser and a text editor
//! read too, and it takes no schema to write.
//!
//! Owns what becomes of the events: a lane for the loop, in which everything stands that it did, and one for each task, with
//! its steps; an arrow from what made a task ready to the step that followed.
//! Must never leave out events without a word: what the ring has lost is told in the file.

use super::Event;
use super::recording::{Label, Snapshot};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// More tasks than this share one lane: their steps never overlap.
const LANES: usize = 1000;
/// The lane of the loop; those of tasks come behind.
const LOOP: usize = 1;
/// The lane of the tasks for which there was none.
const OTHERS: usize = LOOP + LANES + 1;
/// The lanes of the next loop begin so much later.
const NEXT: usize = OTHERS + 1;

/// What goes into the file besides the events.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The process.
    pub pid: u32,
    /// Which loop of it.
    pub number: u64,
    /// Why it has been saved: "block", "signal", …
    pub reason: &'a str,
}

/// Writes the events of loops as one file.
///
/// # Errors
/// What `out` answers.
pub fn write(out: &mut dyn Write, loops: &[(About<'_>, Snapshot)]) -> io::Result<()> {
    let mut out = Events { out, first: true };
    out.out
        .write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    for (about, snapshot) in loops {
        Trace::new(about, snapshot).write(&mut out)?;
    }
    out.out.write_all(b"\n],\"otherData\":{\"aioxide\":\"1\"")?;
    for (about, snapshot) in loops {
        write!(
            out.out,
            ",\"loop {}\":{{\"pid\":{},\"reason\":{},\"events\":{},\"lost\":{}}}",
            about.number,
            about.pid,
            quoted(about.reason),
            snapshot.len(),
            snapshot.lost()
        )?;
    }
    out.out.write_all(b"}}\n")
}

/// The commas between events.
struct Events<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl Events<'_> {
    fn event(&mut self, text: &str) -> io::Result<()> {
        let before: &[u8] = if std::mem::take(&mut self.first) {
            b"\n"
        } else {
            b",\n"
        };
        self.out.write_all(before)?;
        self.out.write_all(text.as_bytes())
    }
}

/// Something that runs, until something else begins.
struct Slice {
    name: String,
    lane: usize,
    start: u64,
}

struct Trace<'a> {
    about: &'a About<'a>,
    snapshot: &'a Snapshot,
    /// What is added to the numbers of lanes: loops of one process are told apart by it.
    first: usize,
    lanes: HashMap<String, usize>,
    running: Option<Slice>,
    /// Tasks that have been made ready: the arrow that ends at their next step.
    arrows: HashMap<u64, u64>,
}

impl<'a> Trace<'a> {
    fn new(about: &'a About<'a>, snapshot: &'a Snapshot) -> Self {
        Self {
            about,
            snapshot,
            first: about.number as usize * NEXT,
            lanes: HashMap::new(),
            running: None,
            arrows: HashMap::new(),
        }
    }

    fn write(mut self, out: &mut Events<'_>) -> io::Result<()> {
        self.name_lane(out, "process_name", LOOP, &format!("aioxide {}", self.about.pid))?;
        self.name_lane(out, "thread_name", LOOP, &format!("loop {}", self.about.number))?;
        for (number, time, record) in self.snapshot.events() {
            if record.event.begins() {
                self.end(out, time)?;
            }
            let subject = record.subject;
            match record.event {
                Event::Step => self.step(out, number, time, subject)?,
                Event::Callback => self.begin(LOOP, self.snapshot.callback(subject), time),
                Event::Poll => self.begin(LOOP, if subject == 0 { "poll" } else { "sleep" }, time),
                Event::Awake => self.begin(LOOP, "events", time),
                Event::Ready | Event::Spawn => self.ready(out, number, time, subject, record.event)?,
                Event::Returned | Event::Raised | Event::Cancelled => {
                    let lane = self.lane_of(out, number, subject)?;
                    let how = match record.event {
                        Event::Returned => "returned",
                        Event::Raised => "raised",
                        _ => "cancelled",
                    };
                    self.instant(out, lane, how, time)?;
                }
            }
        }
        let until = self.snapshot.until();
        self.end(out, until)?;
        self.instant(out, LOOP, &format!("saved: {}", self.about.reason), until)?;
        if let (lost @ 1.., Some((_, time, _))) = (self.snapshot.lost(), self.snapshot.events().next()) {
            self.instant(out, LOOP, &format!("{lost} events before are lost"), time)?;
        }
        Ok(())
    }

    fn begin(&mut self, lane: usize, name: &str, start: u64) {
        self.running = Some(Slice {
            name: name.to_owned(),
            lane,
            start,
        });
    }

    fn step(&mut self, out: &mut Events<'_>, number: u64, time: u64, task: u64) -> io::Result<()> {
        let lane = self.lane_of(out, number, task)?;
        let name = self.title(self.snapshot.label(task, number), task);
        self.begin(lane, &name, time);
        if let Some(arrow) = self.arrows.remove(&task) {
            self.arrow(out, 'f', arrow, lane, time)?;
        }
        Ok(())
    }

    fn ready(
        &mut self,
        out: &mut Events<'_>,
        number: u64,
        time: u64,
        task: u64,
        event: Event,
    ) -> io::Result<()> {
        let lane = self.running.as_ref().map_or(LOOP, |running| running.lane);
        if event == Event::Spawn {
            let name = self.title(self.snapshot.label(task, number), task);
            self.instant(out, lane, &format!("create {name}"), time)?;
        }
        // An arrow begins in a slice or it is not drawn.
        if self.running.is_some() {
            self.arrow(out, 's', number, lane, time)?;
            self.arrows.insert(task, number);
        }
        Ok(())
    }

    /// What runs ends: a slice in the lane of the loop, and for a step one in the task's.
    fn end(&mut self, out: &mut Events<'_>, time: u64) -> io::Result<()> {
        let Some(slice) = self.running.take() else {
            return Ok(());
        };
        let length = time.saturating_sub(slice.start);
        let lanes = [LOOP, slice.lane];
        let lanes = if slice.lane == LOOP { &lanes[..1] } else { &lanes };
        for lane in lanes {
            out.event(&format!(
                "{{\"ph\":\"X\",\"pid\":{},\"tid\":{},\"ts\":{},\"dur\":{},\"name\":{}}}",
                self.about.pid,
                self.first + lane,
                microseconds(slice.start),
                microseconds(length),
                quoted(&slice.name)
            ))?;
        }
        Ok(())
    }

    fn instant(&self, out: &mut Events<'_>, lane: usize, name: &str, time: u64) -> io::Result<()> {
        out.event(&format!(
            "{{\"ph\":\"i\",\"s\":\"t\",\"pid\":{},\"tid\":{},\"ts\":{},\"name\":{}}}",
            self.about.pid,
            self.first + lane,
            microseconds(time),
            quoted(name)
        ))
    }

    /// One end of an arrow: `s` where it starts, `f` where it finishes, each in the slice that is there then.
    fn arrow(&self, out: &mut Events<'_>, end: char, id: u64, lane: usize, time: u64) -> io::Result<()> {
        let binding = if end == 'f' { "\"bp\":\"e\"," } else { "" };
        out.event(&format!(
            "{{\"ph\":\"{end}\",{binding}\"pid\":{},\"tid\":{},\"ts\":{},\"id\":\"{}.{id}\",\"cat\":\"wake\",\"name\":\"wake\"}}",
            self.about.pid,
            self.first + lane,
            microseconds(time),
            self.about.number,
        ))
    }

    fn lane_of(&mut self, out: &mut Events<'_>, number: u64, task: u64) -> io::Result<usize> {
        let name = match self.snapshot.label(task, number) {
            Some(label) => format!("{} {}", self.name(label), self.snapshot.text(label.coroutine)),
            None => format!("task at {task:#x}"),
        };
        if let Some(&lane) = self.lanes.get(&name) {
            return Ok(lane);
        }
        let count = self.lanes.len();
        let lane = if count < LANES { LOOP + 1 + count } else { OTHERS };
        if count <= LANES {
            let shown = if lane == OTHERS { "other tasks" } else { &name };
            self.name_lane(out, "thread_name", lane, shown)?;
        }
        self.lanes.insert(name, lane);
        Ok(lane)
    }

    fn name_lane(&self, out: &mut Events<'_>, what: &str, lane: usize, name: &str) -> io::Result<()> {
        out.event(&format!(
            "{{\"ph\":\"M\",\"pid\":{},\"tid\":{},\"name\":\"{what}\",\"args\":{{\"name\":{}}}}}",
            self.about.pid,
            self.first + lane,
            quoted(name)
        ))
    }

    /// A task in one lane with others: what it runs, and its name.
    fn title(&self, label: Option<Label>, task: u64) -> String {
        match label {
            Some(label) => format!("{} ({})", self.snapshot.text(label.coroutine), self.name(label)),
            None => format!("task at {task:#x}"),
        }
    }

    fn name(&self, label: Label) -> String {
        match label.name {
            Some(name) => self.snapshot.text(name).to_owned(),
            None => format!("Task-{}", label.number),
        }
    }
}

/// The unit of the format, to the nanosecond.
fn microseconds(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

/// As a string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // (what could make a terminal or a page do something)
            character if character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character) => {
                let _ = write!(quoted, "\\u{:04x}", character as u32);
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::Recorder;
    use super::*;

    fn written(recorder: &Recorder) -> String {
        let about = About {
            pid: 12,
            number: 0,
            reason: "test",
        };
        let mut out = Vec::new();
        write(&mut out, &[(about, recorder.recording().snapshot())]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_step_is_in_two_lanes_and_what_woke_it_points_there() {
        let recording = Recorder::new(4096);
        let label = Label {
            number: 7,
            name: None,
            coroutine: recording.text("work"),
        };
        recording.begins(0x10, label);
        recording.note(Event::Callback, recording.text("tick").subject());
        recording.note(Event::Ready, 0x10);
        recording.note(Event::Step, 0x10);
        recording.ends(0x10, Event::Raised);
        recording.note(Event::Poll, 1);
        let text = written(&recording);
        for (wanted, times) in [
            ("\"name\":\"thread_name\",\"args\":{\"name\":\"Task-7 work\"}", 1),
            ("\"name\":\"tick\"", 1),
            ("\"name\":\"work (Task-7)\"", 2),
            ("\"ph\":\"s\"", 1),
            ("\"ph\":\"f\",\"bp\":\"e\"", 1),
            ("\"name\":\"raised\"", 1),
            ("\"name\":\"sleep\"", 1),
            ("\"events\":5,\"lost\":0", 1),
        ] {
            assert_eq!(text.matches(wanted).count(), times, "{wanted} in {text}");
        }
    }

    #[test]
    fn what_is_lost_is_told() {
        let recording = Recorder::new(4096);
        for _ in 0..300 {
            recording.note(Event::Poll, 0);
        }
        let text = written(&recording);
        assert!(text.contains("\"events\":255,\"lost\":45"), "{text}");
        assert!(text.contains("45 events before are lost"), "{text}");
    }

    #[test]
    fn names_cannot_break_the_file() {
        assert_eq!(
            quoted("a\"b\\c\n\u{1b}[2J\u{202e}é"),
            "\"a\\\"b\\\\c\\u000a\\u001b[2J\\u202eé\""
        );
    }

    #[test]
    fn very_many_tasks_share_a_lane() {
        let recording = Recorder::new(1 << 20);
        let coroutine = recording.text("work");
        for number in 1..=LANES as u64 + 50 {
            let label = Label {
                number,
                name: None,
                coroutine,
            };
            recording.begins(number * 16, label);
            recording.note(Event::Step, number * 16);
        }
        let text = written(&recording);
        assert_eq!(text.matches("\"thread_name\"").count(), LANES + 2);
        assert_eq!(text.matches(&format!("\"tid\":{OTHERS},")).count(), 51);
    }
}
