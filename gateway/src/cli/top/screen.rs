//! The terminal: another screen that is given back at the end, however that comes.

use std::io::{self, Write};
use std::os::fd::AsRawFd as _;

use nix::libc::{TIOCGWINSZ, winsize};
use nix::sys::signal::{SigSet, Signal};

/// Another screen, and no cursor (ECMA-48 with the private modes of xterm).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with the cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// The rest of the line, and of the screen, becomes empty.
const REST_OF_LINE: &str = "\x1b[K";
/// See [`REST_OF_LINE`].
const REST_OF_SCREEN: &str = "\x1b[J";

/// The screen while it is ours.
pub(super) struct Screen {
    terminal: io::Stdout,
}

nix::ioctl_read_bad!(window_size, TIOCGWINSZ, winsize);

impl Screen {
    /// Takes the screen. Signals that end the process give it back.
    pub(super) fn open() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
        // Blocked in all threads that come: this one waits for them.
        signals.thread_block()?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // Without signals to wait for there is nothing to do here.
            let _ = signals.wait();
            let _ = write(&io::stdout(), LEAVE);
            std::process::exit(0);
        })?;
        let terminal = io::stdout();
        write(&terminal, ENTER)?;
        Ok(Self { terminal })
    }

    /// Draws a page in place of the one before.
    pub(super) fn show(&self, page: &str) -> io::Result<()> {
        // The last line ends without a newline, which would scroll a full screen.
        let lines = page.trim_end_matches('\n').replace('\n', &format!("{REST_OF_LINE}\n"));
        write(&self.terminal, &format!("{HOME}{lines}{REST_OF_LINE}{REST_OF_SCREEN}"))
    }

    /// Lines and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel writes the structure that TIOCGWINSZ takes, which is ours; there is no other way to learn
        // the size.
        let asked = unsafe { window_size(self.terminal.as_raw_fd(), &raw mut size) };
        match (asked, size.ws_row, size.ws_col) {
            (Ok(_), rows @ 1.., columns @ 1..) => (rows.into(), columns.into()),
            _ => (24, 80),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        let _ = write(&self.terminal, LEAVE);
    }
}

fn write(terminal: &io::Stdout, text: &str) -> io::Result<()> {
    let mut terminal = terminal.lock();
    terminal.write_all(text.as_bytes())?;
    terminal.flush()
}
