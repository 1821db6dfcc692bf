//! Moments as an operator types them, and as they are shown: UTC.

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// Seconds since 1970 of `2026-11-22`, `2026-11-22 07:30`, `2026-11-22T07:30:15Z`, `now`, `@1700000000`, or so long
/// before now: `90s`, `15m`, `6h`, `30d`.
///
/// # Errors
/// What may be typed.
pub fn parse(text: &str, now_s: u64) -> Result<u64, String> {
    let wrong = || {
        format!("{text:?} is no moment: say 2026-11-22, \"2026-11-22 07:30\", now, @SECONDS since 1970, or 90s, 15m, 6h, 30d ago")
    };
    if text == "now" {
        return Ok(now_s);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().map_err(|_| wrong());
    }
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', DAY_S)];
    if let Some((number, (_, unit_s))) = units.iter().find_map(|unit| Some((text.strip_suffix(unit.0)?, unit))) {
        let number: u64 = number.parse().map_err(|_| wrong())?;
        return Ok(now_s.saturating_sub(number.saturating_mul(*unit_s)));
    }
    moment(text).ok_or_else(wrong)
}

fn moment(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "0:0"));
    let numbers = |text: &str, by: char| text.split(by).map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>();
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let time = numbers(time, ':')?;
    let (hour, minute, second) = match time.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let fits = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    Some((years + months + day - 1) * DAY_S + hour * 3600 + minute * 60 + second)
}

/// 2026-11-22 07:30:15.
pub fn shown(seconds: u64) -> String {
    let (mut days, second) = (seconds / DAY_S, seconds % DAY_S);
    let mut year = 1970;
    while days >= if is_leap(year) { 366 } else { 365 } && year < 9999 {
        days -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) && month < 12 {
        days -= days_of(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        let now = 1_800_000_000;
        let cases = [
            ("now", now),
            ("@5", 5),
            ("90s", now - 90),
            ("2h", now - 7200),
            ("1d", now - 86_400),
            ("1970-01-02", 86_400),
            ("2024-02-29 12:30", 1_709_209_800),
            ("2026-11-22T07:30:15Z", 1_795_332_615),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse(text, now), Ok(seconds), "{text}");
        }
        for wrong in ["", "x", "2026-13-01", "2025-02-29", "2026-01-01 24:00", "5w", "-5s", "1969-01-01"] {
            assert!(parse(wrong, now).is_err(), "{wrong}");
        }
        assert_eq!(shown(1_795_332_615), "2026-11-22 07:30:15");
        assert_eq!(shown(1_709_209_800), "2024-02-29 12:30:00");
        assert_eq!(shown(0), "1970-01-01 00:00:00");
    }
}
