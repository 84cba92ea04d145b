//! Learning-rate schedules: the rate as a function of the step, as defined by `torch.optim.lr_scheduler`.

use candle_core::Result;
use std::f64::consts::PI;

use crate::check;

/// A learning rate for each step. The caller chooses what a step is, a batch or an epoch.
///
/// ```
/// use candle_cnn::schedule::Schedule;
/// let schedule = Schedule::one_cycle(0.1, 100)?;
/// assert!((schedule.learning_rate(0) - 0.004).abs() < 1e-12); // 0.1 / 25
/// assert!((schedule.learning_rate(29) - 0.1).abs() < 1e-12); // the top after 30 % of the steps
/// assert!(schedule.learning_rate(99) < 1e-6);
/// assert!(Schedule::Step { initial: 0.1, every: 0, gamma: 0.5 }.check().is_err());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// A constant rate.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Multiplied by `gamma` every `every` steps (`StepLR`).
    Step {
        /// The rate at step 0.
        initial: f64,
        /// Steps between two changes, at least 1.
        every: usize,
        /// The factor.
        gamma: f64,
    },
    /// Half a cosine from `initial` at step 0 to `minimum` at step `steps` and after (`CosineAnnealingLR`).
    Cosine {
        /// The rate at step 0.
        initial: f64,
        /// The rate at the end.
        minimum: f64,
        /// The number of steps, at least 1.
        steps: usize,
    },
    /// Rises from `maximum / initial_divisor` to `maximum` in the first `warm_up` of the steps, then falls to the
    /// initial rate divided by `final_divisor`, both along half a cosine (`OneCycleLR`; the momentum is not cycled).
    OneCycle {
        /// The highest rate.
        maximum: f64,
        /// The number of steps, at least 2.
        steps: usize,
        /// Fraction of the steps for the rise, above 0 and below 1 (PyTorch's `pct_start`, 0.3).
        warm_up: f64,
        /// Highest rate over the first (PyTorch's `div_factor`, 25).
        initial_divisor: f64,
        /// First rate over the last (PyTorch's `final_div_factor`, 10,000).
        final_divisor: f64,
    },
}

impl Schedule {
    /// [`Schedule::OneCycle`] with PyTorch's settings: warm-up 0.3, divisors 25 and 10,000.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn one_cycle(maximum: f64, steps: usize) -> Result<Self> {
        let schedule = Self::OneCycle { maximum, steps, warm_up: 0.3, initial_divisor: 25.0, final_divisor: 10_000.0 };
        schedule.check()?;
        Ok(schedule)
    }

    /// Rejects invalid settings.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        const NAME: &str = "schedule";
        let rate = |setting, rate: f64| check::not_negative(NAME, setting, rate);
        match *self {
            Self::Constant { rate: r } => rate("rate", r),
            Self::Step { initial, every, gamma } => {
                rate("initial", initial)?;
                rate("gamma", gamma)?;
                check::positive(NAME, "every", every)
            }
            Self::Cosine { initial, minimum, steps } => {
                rate("initial", initial)?;
                rate("minimum", minimum)?;
                check::positive(NAME, "steps", steps)
            }
            Self::OneCycle { maximum, steps, warm_up, initial_divisor, final_divisor } => {
                rate("maximum", maximum)?;
                check::setting(NAME, "steps", steps, steps > 1, "at least 2")?;
                let inside = warm_up > 0.0 && warm_up < 1.0;
                check::setting(NAME, "warm_up", warm_up, inside, "a number above 0 and below 1")?;
                for (setting, divisor) in [("initial_divisor", initial_divisor), ("final_divisor", final_divisor)] {
                    let holds = divisor > 0.0 && divisor.is_finite();
                    check::setting(NAME, setting, divisor, holds, "a number above 0")?;
                }
                Ok(())
            }
        }
    }

    /// The rate of step `step`, counted from 0. After the end of the schedule it stays at the last rate.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let cosine = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
        match *self {
            Self::Constant { rate } => rate,
            Self::Step { initial, every, gamma } => initial * gamma.powf((step / every.max(1)) as f64),
            Self::Cosine { initial, minimum, steps } => {
                cosine(initial, minimum, step.min(steps) as f64 / steps.max(1) as f64)
            }
            Self::OneCycle { maximum, steps, warm_up, initial_divisor, final_divisor } => {
                let initial = maximum / initial_divisor;
                let end = steps.saturating_sub(1) as f64;
                let step = (step as f64).min(end);
                let top = warm_up * steps as f64 - 1.0;
                if step <= top {
                    // A warm-up of one step has no progress.
                    cosine(initial, maximum, if top > 0.0 { step / top } else { 1.0 })
                } else {
                    cosine(maximum, initial / final_divisor, (step - top) / (end - top))
                }
            }
        }
    }
}
