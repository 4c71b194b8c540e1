//! Weekly windows on the wall clock of a time zone.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::policy::model::Window;

/// Days that are looked ahead: eight windows of one day a week.
const DAYS: usize = 64;

/// The first intervals from `unix` on, in milliseconds since 1970; of a time zone that is not known, none.
///
/// A time of day that daylight saving leaves out is as much later; one that comes twice is the first.
pub(super) fn intervals(window: &Window, unix: u64, count: usize) -> Vec<(u64, u64)> {
    all(window, unix, count).unwrap_or_default()
}

fn all(window: &Window, unix: u64, count: usize) -> Result<Vec<(u64, u64)>, jiff::Error> {
    let zone = TimeZone::get(&window.timezone)?;
    let now = Timestamp::from_millisecond(i64::try_from(unix).unwrap_or(i64::MAX))?;
    // One that began yesterday may last.
    let mut date = now.to_zoned(zone.clone()).date().yesterday()?;
    let mut intervals: Vec<(u64, u64)> = Vec::new();
    for _ in 0..DAYS {
        if window.days.contains(&date.weekday().to_monday_zero_offset().unsigned_abs()) {
            let from = at(date, window.from, &zone)?;
            let last = if window.to <= window.from { date.tomorrow()? } else { date };
            let until = at(last, window.to, &zone)?;
            match intervals.last_mut() {
                Some(before) if before.1 >= from => before.1 = before.1.max(until),
                _ if from < until => intervals.push((from, until)),
                _ => {}
            }
        }
        date = date.tomorrow()?;
    }
    intervals.retain(|interval| interval.1 > unix);
    intervals.truncate(count);
    Ok(intervals)
}

/// Milliseconds since 1970 at so many minutes of a day; the last minute is the first of the next day.
fn at(date: Date, minutes: u16, zone: &TimeZone) -> Result<u64, jiff::Error> {
    let (date, minutes) = if minutes >= 24 * 60 { (date.checked_add(1.day())?, 0) } else { (date, minutes) };
    let time =
        Time::new(i8::try_from(minutes / 60).unwrap_or(0), i8::try_from(minutes % 60).unwrap_or(0), 0, 0)?;
    let at = date.to_datetime(time).to_zoned(zone.clone())?.timestamp().as_millisecond();
    Ok(u64::try_from(at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn unix(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn shown(window: &Window, now: &str, count: usize) -> Vec<String> {
        let show = |unix: u64| Timestamp::from_millisecond(i64::try_from(unix).unwrap()).unwrap().to_string();
        let intervals = intervals(window, unix(now), count);
        intervals.into_iter().map(|(from, until)| format!("{}/{}", show(from), show(until))).collect()
    }

    fn window(days: &[u8], from: u16, to: u16, timezone: &str) -> Window {
        Window { days: days.iter().copied().collect(), from, to, timezone: timezone.to_owned() }
    }

    #[test]
    fn a_window_is_one_of_its_time_zone() {
        // Tuesday 01:00 to 05:00 in Tokyo is Monday evening in UTC.
        let tokyo = window(&[1], 60, 300, "Asia/Tokyo");
        assert_eq!(
            shown(&tokyo, "2026-11-22T00:00:00Z", 2),
            ["2026-11-23T16:00:00Z/2026-11-23T20:00:00Z", "2026-11-30T16:00:00Z/2026-11-30T20:00:00Z"]
        );
        // In it, and at its end.
        assert_eq!(shown(&tokyo, "2026-11-23T19:59:59Z", 1), ["2026-11-23T16:00:00Z/2026-11-23T20:00:00Z"]);
        assert_eq!(shown(&tokyo, "2026-11-23T20:00:00Z", 1), ["2026-11-30T16:00:00Z/2026-11-30T20:00:00Z"]);
    }

    #[test]
    fn one_that_ends_before_it_begins_ends_on_the_next_day() {
        let night = window(&[4], 22 * 60, 6 * 60, "UTC");
        assert_eq!(shown(&night, "2026-11-21T05:00:00Z", 1), ["2026-11-20T22:00:00Z/2026-11-21T06:00:00Z"]);
    }

    #[test]
    fn days_that_touch_are_one_window() {
        let always = window(&[0, 1, 2, 3, 4, 5, 6], 0, 24 * 60, "UTC");
        let intervals = intervals(&always, unix("2026-11-22T12:00:00Z"), 8);
        assert_eq!(intervals.len(), 1);
        assert_eq!(
            shown(&window(&[0, 1], 0, 24 * 60, "UTC"), "2026-11-22T12:00:00Z", 1),
            ["2026-11-23T00:00:00Z/2026-11-25T00:00:00Z"]
        );
    }

    #[test]
    fn daylight_saving_moves_a_window_with_the_wall_clock() {
        // Central Europe: to summer time on 29 March 2026 at 01:00 UTC, back on 25 October 2026 at 01:00 UTC.
        let sundays = window(&[6], 60, 5 * 60, "Europe/Berlin");
        assert_eq!(shown(&sundays, "2026-03-28T12:00:00Z", 1), ["2026-03-29T00:00:00Z/2026-03-29T03:00:00Z"]);
        assert_eq!(shown(&sundays, "2026-10-24T12:00:00Z", 1), ["2026-10-24T23:00:00Z/2026-10-25T04:00:00Z"]);
        // In the hour that is left out, and in the one that comes twice.
        let half_past_two = window(&[6], 150, 165, "Europe/Berlin");
        assert_eq!(
            shown(&half_past_two, "2026-03-28T12:00:00Z", 1),
            ["2026-03-29T01:30:00Z/2026-03-29T01:45:00Z"]
        );
        assert_eq!(
            shown(&half_past_two, "2026-10-24T12:00:00Z", 1),
            ["2026-10-25T00:30:00Z/2026-10-25T00:45:00Z"]
        );
    }

    #[test]
    fn an_unknown_time_zone_opens_nothing() {
        assert!(intervals(&window(&[1], 0, 60, "Mars/Olympus"), unix("2026-11-22T12:00:00Z"), 8).is_empty());
    }
}
