//! Sizes as people write them: `64KiB`, `512MiB`, `2GiB`.

/// Units with their bytes; longer names before `B`, in which they end.
const UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// Parses a size. A bare number is refused, as one of a duration is; so are kB and MB, which are a
/// thousand to one and 1 024 to another.
///
/// # Errors
/// What would be right.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if !digits.is_empty() && unit.is_empty() {
        return Err(format!("{text} has no unit; write {text}MiB, or {text}B for bytes"));
    }
    let wrong = || format!("{text:?} is not a size such as 64KiB, 512MiB, 2GiB");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*unit_bytes).ok_or_else(wrong)
}

/// In as few words as will do.
pub(crate) fn rough(bytes: u64) -> String {
    let larger = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match larger.iter().find(|(_, unit_bytes)| bytes >= *unit_bytes) {
        Some((name, unit_bytes)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit_bytes);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, bytes) in
            [("0B", 0), ("7B", 7), ("64KiB", 64 << 10), ("512MiB", 512 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        assert!(parse("512").is_err_and(|error| error.contains("512MiB")));
        for text in ["", "MiB", "1MB", "1kB", "1 MiB", "-1MiB", "1.5GiB", "18446744073709551615KiB"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rough_size_has_one_unit() {
        for (bytes, written) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (512 << 20, "512.0 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(rough(bytes), written);
        }
    }
}
