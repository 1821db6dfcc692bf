//! What VMs of a device get if all of them want all that they may have.

use paravane_scheduler::{Settings, VmId};

/// Thousandths of a device's time.
const WHOLE: u32 = 1000;
/// How exactly it is known what a weight of 1 gives, in parts of a thousandth.
const LEVELS: u64 = 1 << 20;

/// What a VM gets where a weight of 1 gives so much: no less than its guarantee, no
/// more than its cap.
fn part(settings: &Settings, level: u64) -> u32 {
    let by_weight = u64::from(settings.weight()) * level / LEVELS;
    u32::try_from(by_weight).unwrap_or(WHOLE).clamp(settings.minimum(), settings.cap())
}

/// The thousandths that each VM is entitled to. Together they are no more than the
/// device, but for VMs that would have none and get one.
pub(super) fn entitled(vms: &[(VmId, Settings)]) -> Vec<(VmId, u32)> {
    let fits = |level: u64| {
        let parts = vms.iter().map(|(_, settings)| u64::from(part(settings, level)));
        parts.sum::<u64>() <= u64::from(WHOLE)
    };
    // The guarantees fit; at the highest level each VM has its cap.
    let (mut lowest, mut highest) = (0, u64::from(WHOLE) * LEVELS);
    while lowest < highest {
        let level = lowest + (highest - lowest).div_ceil(2);
        (lowest, highest) = if fits(level) { (level, highest) } else { (lowest, level - 1) };
    }
    vms.iter().map(|(id, settings)| (*id, part(settings, lowest).max(1))).collect()
}

#[cfg(test)]
mod tests {
    use paravane_scheduler::Priority;

    use super::*;

    fn shares<const N: usize>(vms: [(u32, u32, u32); N]) -> Vec<u32> {
        let of = |(weight, minimum, cap)| Settings::new(weight, minimum, cap, Priority::Normal).unwrap();
        let vms: Vec<_> = (0..).map(VmId).zip(vms.map(of)).collect();
        entitled(&vms).into_iter().map(|(_, share)| share).collect()
    }

    #[test]
    fn weights_share_what_guarantees_and_caps_leave() {
        assert_eq!(shares([(300, 0, 1000), (100, 0, 1000), (100, 0, 1000)]), [600, 200, 200]);
        assert_eq!(shares([(100, 700, 1000), (100, 300, 1000)]), [700, 300], "as they are guaranteed");
        assert_eq!(shares([(100, 700, 1000), (100, 0, 1000), (200, 0, 1000)]), [700, 100, 200]);
        assert_eq!(shares([(100, 0, 200), (100, 0, 1000), (100, 0, 1000)]), [200, 400, 400], "what a cap leaves is the others'");
        assert_eq!(shares([(100, 0, 250), (1, 0, 300)]), [250, 300], "nobody wants the rest");
        assert_eq!(shares([]), [0; 0]);
    }

    #[test]
    fn however_many_there_are_they_have_no_more_than_the_device() {
        let settings = |number: u32| {
            let weight = 1 + number * 7919 % 10_000;
            Settings::new(weight, u32::from(number.is_multiple_of(50)), 1 + number % 1000, Priority::Normal).unwrap()
        };
        let vms: Vec<_> = (0..900).map(|number| (VmId(number), settings(number))).collect();
        let (given, least): (Vec<u32>, usize) = {
            let shares = entitled(&vms);
            let ones = shares.iter().filter(|(_, share)| *share == 1).count();
            (shares.into_iter().map(|(_, share)| share).collect(), ones)
        };
        let sum = usize::try_from(given.iter().sum::<u32>()).unwrap();
        assert!((900..=1000 + least).contains(&sum), "{sum}");
    }
}
