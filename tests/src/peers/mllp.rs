//! HL7 v2 over MLLP (HL7 Transport Specification: MLLP, release 1): a message stands between
//! 0x0b and 0x1c 0x0d; each is answered by an acknowledgement that names its control id.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

const START: u8 = 0x0b;
const END: [u8; 2] = [0x1c, 0x0d];
/// Longest message that is read, in bytes.
const LONGEST_MESSAGE: usize = 1 << 20;
/// Bytes that may stand between messages before the sender is given up.
const LONGEST_GARBAGE: usize = 1 << 16;

/// Answers every message, for ever.
pub fn listen(listener: &TcpListener) {
    super::accept_each(listener, |stream| {
        let mut reader = BufReader::new(stream);
        while let Some(message) = read_message(&mut reader)? {
            let answer = acknowledgement(&message);
            reader.get_mut().write_all(&framed(&answer))?;
        }
        Ok(())
    });
}

/// Sends an admission message with this control id and checks the acknowledgement.
pub fn send(to: SocketAddr, control_id: &str, wait: Duration) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, wait).context("no connection")?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    let message = format!(
        "MSH|^~\\&|HIS|HOSPITAL|ENGINE|HOSPITAL|20260101120000||ADT^A01|{control_id}|P|2.5\r\
         EVN|A01|20260101120000\r\
         PID|1||4711^^^HOSPITAL||TEST^PATIENT||19700101|F\r\
         PV1|1|I|WARD^1^1\r"
    );
    stream.write_all(&framed(message.as_bytes())).context("message not sent")?;
    let answer = read_message(&mut BufReader::new(stream)).context("no acknowledgement")?;
    let answer = String::from_utf8(answer.context("connection closed without acknowledgement")?)?;
    let expected = format!("MSA|AA|{control_id}");
    ensure!(
        answer.split('\r').any(|segment| segment == expected),
        "acknowledgement without {expected}: {answer:?}"
    );
    Ok(())
}

/// Sends a message every `pause` over one connection until `stop`; returns how many were acknowledged.
///
/// # Errors
/// Where the connection does not come about, ends, or an acknowledgement takes longer than `wait`.
pub fn converse(to: SocketAddr, pause: Duration, wait: Duration, stop: &AtomicBool) -> Result<u64> {
    let stream = TcpStream::connect_timeout(&to, wait).context("no connection")?;
    stream.set_read_timeout(Some(wait))?;
    let mut reader = BufReader::new(stream);
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        reader
            .get_mut()
            .write_all(&framed(b"MSH|^~\\&|HIS|HOSPITAL|ENGINE|HOSPITAL|||ADT^A08|RUNNING|P|2.5\r"))?;
        let answer = read_message(&mut reader).with_context(|| format!("after {acknowledged} messages"))?;
        let answer = String::from_utf8(answer.context("connection closed")?)?;
        ensure!(answer.contains("MSA|AA|RUNNING"), "an acknowledgement of something else: {answer:?}");
        acknowledged += 1;
        thread::sleep(pause);
    }
    Ok(acknowledged)
}

/// The next message, without its frame; `None` at the end of the stream.
fn read_message(reader: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>> {
    let mut garbage = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let start = bytes.iter().position(|byte| *byte == START);
        let used = start.map_or(bytes.len(), |start| start + 1);
        reader.consume(used);
        if start.is_some() {
            break;
        }
        garbage += used;
        ensure!(garbage <= LONGEST_GARBAGE, "{garbage} bytes and no message");
    }
    let mut message = Vec::new();
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            bail!("stream ends within a message");
        }
        // A message ends at the first carriage return that follows a file separator.
        let end = bytes.iter().position(|byte| *byte == END[1]);
        let used = end.map_or(bytes.len(), |end| end + 1);
        message.extend_from_slice(&bytes[..used]);
        reader.consume(used);
        ensure!(message.len() <= LONGEST_MESSAGE, "message longer than {LONGEST_MESSAGE} bytes");
        if let Some(content) = message.strip_suffix(&END) {
            return Ok(Some(content.to_vec()));
        }
    }
}

/// Accepts what has a header with a control id, rejects all else.
fn acknowledgement(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(message);
    // MSH-1 is the separator itself: field 10 stands at index 9.
    let control_id = text
        .split('\r')
        .find(|segment| segment.starts_with("MSH|"))
        .and_then(|header| header.split('|').nth(9))
        .filter(|id| !id.is_empty() && id.len() <= 199);
    let (code, id) = control_id.map_or(("AR", "0"), |id| ("AA", id));
    format!("MSH|^~\\&|ENGINE|HOSPITAL|HIS|HOSPITAL|20260101120000||ACK^A01|{id}-A|P|2.5\rMSA|{code}|{id}\r")
        .into_bytes()
}

fn framed(content: &[u8]) -> Vec<u8> {
    [&[START], content, &END].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read as _;

    use super::*;

    fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || listen(&listener));
        address
    }

    #[test]
    fn a_message_is_acknowledged_by_its_control_id() {
        send(serve(), "MSG00001", Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn garbage_before_a_message_is_skipped_and_a_message_without_header_rejected() {
        let mut stream = TcpStream::connect(serve()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n\x0bPID|1\r\x1c\x0d").unwrap();
        let answer = read_message(&mut BufReader::new(stream)).unwrap().unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("MSA|AR|0"));
    }

    #[test]
    fn endless_garbage_and_endless_messages_end_the_connection() {
        for start in [b'x', START] {
            let mut stream = TcpStream::connect(serve()).unwrap();
            let mut sent = stream.write_all(&[start]);
            let more = vec![b'x'; 1 << 16];
            for _ in 0..64 {
                sent = sent.and_then(|()| stream.write_all(&more));
            }
            let ended = sent.is_err() || !matches!(stream.read(&mut [0]), Ok(1..));
            assert!(ended, "the listener read on");
        }
    }
}
