//! How large a volume becomes.

use tonic::Status;

use crate::answer::Answer;
use crate::wire::csi::CapacityRange;

/// Sizes are whole multiples of this where the caller allows it.
const STEP: u64 = 1 << 20;

/// What a volume is that nobody asked a size for.
const USUAL: u64 = 1 << 30;

/// The least and the most that was asked for; no most is `u64::MAX`.
pub(crate) fn asked(range: Option<&CapacityRange>) -> Answer<(u64, u64)> {
    let range = range.copied().unwrap_or_default();
    let number = |name: &str, bytes: i64| {
        let wrong = |_| Status::invalid_argument(format!("{name} is negative: {bytes}"));
        u64::try_from(bytes).map_err(wrong)
    };
    let least = number("required_bytes", range.required_bytes)?;
    let most = number("limit_bytes", range.limit_bytes)?;
    let most = if most == 0 { u64::MAX } else { most };
    if least > most {
        return Err(Status::invalid_argument("required_bytes is more than limit_bytes"));
    }
    Ok((least, most))
}

/// The size of a new volume that holds at least `content`, on a pool of `pool` bytes.
pub(crate) fn choose(range: Option<&CapacityRange>, content: u64, pool: u64) -> Answer<u64> {
    let (least, most) = asked(range)?;
    if least != 0 && least < content || most < content {
        let text = format!("{least} to {most} bytes cannot hold the source's {content}");
        return Err(Status::out_of_range(text));
    }
    let usual = if content == 0 { USUAL.min(most) } else { content };
    let wanted = if least == 0 { usual } else { least };
    let rounded = wanted.checked_next_multiple_of(STEP).unwrap_or(u64::MAX);
    let bytes = if rounded <= most { rounded } else { wanted };
    if bytes > pool {
        return Err(Status::out_of_range(format!("{bytes} bytes do not fit a pool of {pool}")));
    }
    Ok(bytes)
}

/// A size as the protocol has it.
pub(crate) fn told(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const POOL: u64 = 100 << 30;

    fn chosen(required_bytes: i64, limit_bytes: i64, content: u64) -> Result<u64, Code> {
        let range = CapacityRange { required_bytes, limit_bytes };
        choose(Some(&range), content, POOL).map_err(|status| status.code())
    }

    #[test]
    fn sizes_are_rounded_up_but_not_beyond_the_limit() {
        assert_eq!(choose(None, 0, POOL).unwrap(), 1 << 30);
        assert_eq!(chosen(1, 0, 0), Ok(1 << 20));
        assert_eq!(chosen(1, 4096, 0), Ok(1));
        assert_eq!(chosen(0, 4096, 0), Ok(4096));
        assert_eq!(chosen(0, 0, 5 << 20), Ok(5 << 20));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(chosen(-1, 0, 0), Err(Code::InvalidArgument));
        assert_eq!(chosen(2, 1, 0), Err(Code::InvalidArgument));
        assert_eq!(chosen(1, 0, 5 << 20), Err(Code::OutOfRange));
        assert_eq!(chosen(0, 1, 5 << 20), Err(Code::OutOfRange));
        assert_eq!(chosen(200 << 30, 0, 0), Err(Code::OutOfRange));
        assert_eq!(chosen(i64::MAX, 0, 0), Err(Code::OutOfRange));
    }
}
