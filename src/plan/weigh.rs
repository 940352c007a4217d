//! What a fleet of a shape weighs: its GPUs, its servers, its price, the watts that it draws at least.

use overbook_scenarios::scenario::PlanObjective;

use super::space::Size;

/// Parts of a dollar, a GPU, a server or a kilowatt that are told apart.
const PARTS: f64 = 1e4;

/// What a replica of a side takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SideWeight {
    /// GPUs of a replica.
    pub(crate) gpus: u32,
    /// GPUs of a server, where it is known in what GPUs stand.
    pub(crate) per_server: Option<u32>,
    /// What a server draws with nothing to do [W], where that is known.
    pub(crate) idle: Option<f64>,
    /// Dollars per GPU and hour.
    pub(crate) usd: Option<f64>,
}

/// What fleets of a shape weigh.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Weight {
    /// All replicas, or those that compute prompts where the sides differ.
    pub(crate) first: SideWeight,
    /// Those that decode, where they differ.
    pub(crate) second: Option<SideWeight>,
    /// What is to be spared.
    pub(crate) objective: PlanObjective,
}

impl SideWeight {
    /// Servers of so many replicas: they fill them in order, and are split over several only if none holds them.
    fn servers(&self, replicas: u32) -> Option<u32> {
        let per_server = self.per_server?.max(1);
        Some(if self.gpus > per_server {
            replicas * self.gpus.div_ceil(per_server)
        } else {
            replicas.div_ceil(per_server / self.gpus.max(1))
        })
    }
}

impl Weight {
    /// The sides and their replicas.
    fn sides(&self, size: Size) -> [(Option<&SideWeight>, u32); 2] {
        match (size, &self.second) {
            (Size::Apart(prefill, decode), Some(second)) => [(Some(&self.first), prefill), (Some(second), decode)],
            _ => [(Some(&self.first), size.replicas()), (None, 0)],
        }
    }

    /// The sum over the sides of what each takes; `None` where one is not known.
    fn sum(&self, size: Size, of: impl Fn(&SideWeight, u32) -> Option<f64>) -> Option<f64> {
        let sides = self.sides(size).into_iter();
        sides.filter_map(|(side, replicas)| Some((side?, replicas))).map(|(side, replicas)| of(side, replicas)).sum()
    }

    /// GPUs of a fleet.
    pub(crate) fn gpus(&self, size: Size) -> u32 {
        let sides = self.sides(size).into_iter();
        sides.map(|(side, replicas)| side.map_or(0, |side| side.gpus.saturating_mul(replicas))).sum()
    }

    /// Servers of a fleet, where they are known.
    pub(crate) fn servers(&self, size: Size) -> Option<u32> {
        self.sum(size, |side, replicas| side.servers(replicas).map(f64::from)).map(|servers| servers as u32)
    }

    /// What an hour of a fleet costs: dollars to the hundredth of a cent.
    pub(crate) fn usd(&self, size: Size) -> Option<f64> {
        let usd = self.sum(size, |side, replicas| Some(f64::from(replicas) * f64::from(side.gpus) * side.usd?));
        usd.map(|usd| (usd * PARTS).round() / PARTS)
    }

    /// What a fleet draws with nothing to do [W], and so at least; where that is known.
    pub(crate) fn idle_watts(&self, size: Size) -> Option<f64> {
        self.sum(size, |side, replicas| Some(f64::from(side.servers(replicas)?) * side.idle?))
    }

    /// How much of what is to be spared a fleet takes at least: of watts those that it draws with nothing to do, else all that it takes.
    pub(crate) fn cost(&self, size: Size) -> f64 {
        let cost = match self.objective {
            PlanObjective::Usd => self.usd(size),
            PlanObjective::Gpus => Some(f64::from(self.gpus(size))),
            PlanObjective::Servers => self.servers(size).map(f64::from),
            PlanObjective::Kw => self.idle_watts(size).map(|watts| watts / 1e3),
        };
        // What is not known was refused before.
        (cost.unwrap_or(0.0) * PARTS).round() / PARTS
    }

    /// The same as a whole number.
    pub(crate) fn units(&self, size: Size) -> u64 {
        (self.cost(size) * PARTS).round() as u64
    }

    /// A whole number of them as a cost.
    pub(crate) fn of_units(units: u64) -> f64 {
        units as f64 / PARTS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    fn side(gpus: u32, usd: f64) -> SideWeight {
        SideWeight { gpus, per_server: Some(8), idle: Some(2000.0), usd: Some(usd) }
    }

    #[test]
    fn replicas_fill_servers_and_each_side_has_its_own() {
        let weight = Weight { first: side(2, 2.0), second: Some(side(4, 3.0)), objective: PlanObjective::Usd };
        let size = Size::Apart(5, 3);
        // Five replicas of two GPUs take two servers of eight, three of four take two more.
        assert_eq!((weight.gpus(size), weight.servers(size), weight.usd(size)), (22, Some(4), Some(56.0)));
        assert_eq!(weight.idle_watts(size), Some(8000.0));
        let of = |objective| Weight { objective, ..weight }.cost(size);
        assert_eq!(of(PlanObjective::Servers), 4.0);
        assert_eq!(of(PlanObjective::Kw), 8.0);
        assert_eq!(of(PlanObjective::Gpus), 22.0);
        // A copy on two servers.
        let large = Weight { first: side(16, 2.0), second: None, objective: PlanObjective::Servers };
        assert_eq!(large.servers(Size::Together(3)), Some(6));
        // Alike on both sides: they share servers.
        let alike = Weight { first: side(2, 2.0), second: None, objective: PlanObjective::Gpus };
        assert_eq!(alike.servers(Size::Apart(5, 3)), Some(2));
        let unknown = Weight { first: SideWeight { idle: None, ..side(2, 1.0) }, ..alike };
        assert_eq!(unknown.idle_watts(Size::Together(1)), None);
    }
}
