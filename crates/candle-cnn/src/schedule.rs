//! Learning-rate schedules: the rate as a function of the step, as `torch.optim.lr_scheduler` defines them.

use candle_core::Result;
use std::f64::consts::PI;

use crate::error::Error;

/// A learning rate for each step. What a step is (a batch or an epoch) is for the caller to choose.
///
/// ```
/// use candle_cnn::schedule::Schedule;
/// let schedule = Schedule::one_cycle(0.1, 100)?;
/// assert!((schedule.learning_rate(0) - 0.004).abs() < 1e-12); // 0.1 / 25
/// assert!((schedule.learning_rate(29) - 0.1).abs() < 1e-12); // the top after 30 % of the steps
/// assert!(schedule.learning_rate(99) < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The same rate for ever.
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
    /// Up from `maximum / initial_divisor` to `maximum` in the first `warm_up` of the steps, then down to a
    /// `final_divisor`-th of where it began, both along half a cosine (`OneCycleLR`; the momentum is not cycled).
    OneCycle {
        /// The highest rate.
        maximum: f64,
        /// The number of steps, at least 2.
        steps: usize,
        /// Share of the steps that the way up takes, above 0 and below 1 (PyTorch's `pct_start`, 0.3).
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
    /// ```
    /// use candle_cnn::schedule::Schedule;
    /// assert!(Schedule::one_cycle(0.1, 100)?.learning_rate(10) < 0.1);
    /// assert!(Schedule::one_cycle(0.1, 1).is_err()); // One step goes nowhere.
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn one_cycle(maximum: f64, steps: usize) -> Result<Self> {
        let schedule = Self::OneCycle { maximum, steps, warm_up: 0.3, initial_divisor: 25.0, final_divisor: 10_000.0 };
        schedule.check()?;
        Ok(schedule)
    }

    /// Refuses settings that give no rate.
    ///
    /// ```
    /// use candle_cnn::schedule::Schedule;
    /// assert!(Schedule::Step { initial: 0.1, every: 0, gamma: 0.5 }.check().is_err());
    /// ```
    ///
    /// # Errors
    /// Names the setting, what it is and what it should be.
    pub fn check(&self) -> Result<()> {
        let require = |holds: bool, setting: &'static str, found: String, wanted: &str| {
            if holds {
                return Ok(());
            }
            Err(Error::Setting { operation: "schedule", setting, found, wanted: wanted.into() }.into())
        };
        let rate = |setting, rate: f64| {
            require(rate >= 0.0 && rate.is_finite(), setting, rate.to_string(), "a number of at least 0")
        };
        match *self {
            Self::Constant { rate: r } => rate("rate", r),
            Self::Step { initial, every, gamma } => {
                rate("initial", initial)?;
                rate("gamma", gamma)?;
                require(every > 0, "every", every.to_string(), "at least 1")
            }
            Self::Cosine { initial, minimum, steps } => {
                rate("initial", initial)?;
                rate("minimum", minimum)?;
                require(steps > 0, "steps", steps.to_string(), "at least 1")
            }
            Self::OneCycle { maximum, steps, warm_up, initial_divisor, final_divisor } => {
                rate("maximum", maximum)?;
                require(steps > 1, "steps", steps.to_string(), "at least 2")?;
                let inside = warm_up > 0.0 && warm_up < 1.0;
                require(inside, "warm_up", warm_up.to_string(), "a number above 0 and below 1")?;
                for (setting, divisor) in [("initial_divisor", initial_divisor), ("final_divisor", final_divisor)] {
                    let holds = divisor > 0.0 && divisor.is_finite();
                    require(holds, setting, divisor.to_string(), "a number above 0")?;
                }
                Ok(())
            }
        }
    }

    /// The rate of step `step`, counted from 0. After a schedule's end its last rate stays.
    ///
    /// ```
    /// use candle_cnn::schedule::Schedule;
    /// let schedule = Schedule::Step { initial: 0.1, every: 30, gamma: 0.1 };
    /// assert!((schedule.learning_rate(30) - 0.01).abs() < 1e-12);
    /// ```
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
                    // One step of warm-up has no way to go.
                    cosine(initial, maximum, if top > 0.0 { step / top } else { 1.0 })
                } else {
                    cosine(maximum, initial / final_divisor, (step - top) / (end - top))
                }
            }
        }
    }
}
