//! The way of one filter's route into dist and out of it: one call at a time.

/// Where a filter's route stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Route {
    #[default]
    Absent,
    Adding,
    Present,
    Removing,
}

/// What to call next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteStep {
    /// The route is as it should be.
    Nothing,
    /// A call is under way; the outcome comes with it.
    Wait,
    Add,
    Remove,
    /// A removal failed; try it again later.
    RetryRemoval,
}

impl Route {
    /// Somebody has the filter.
    pub(crate) fn wanted(&mut self) -> RouteStep {
        match self {
            Self::Absent => {
                *self = Self::Adding;
                RouteStep::Add
            }
            Self::Present => RouteStep::Nothing,
            // After a removal in flight the route is added again.
            Self::Adding | Self::Removing => RouteStep::Wait,
        }
    }

    /// Somebody has the filter with other options, which the route has to say.
    pub(crate) fn wanted_anew(&mut self) -> RouteStep {
        if *self == Self::Present {
            *self = Self::Absent;
        }
        self.wanted()
    }

    /// Nobody has the filter any more.
    pub(crate) fn unwanted(&mut self) -> RouteStep {
        match self {
            Self::Present => {
                *self = Self::Removing;
                RouteStep::Remove
            }
            _ => RouteStep::Nothing,
        }
    }

    /// The call that was out has ended.
    pub(crate) fn ended(&mut self, is_done: bool, is_wanted: bool) -> RouteStep {
        match (*self, is_done) {
            (Self::Adding, true) => {
                *self = Self::Present;
                if is_wanted {
                    RouteStep::Nothing
                } else {
                    self.unwanted()
                }
            }
            (Self::Adding, false) => {
                // It may have been applied after all: it is removed before it is forgotten.
                *self = Self::Removing;
                RouteStep::Remove
            }
            (Self::Removing, true) => {
                *self = Self::Absent;
                if is_wanted {
                    self.wanted()
                } else {
                    RouteStep::Nothing
                }
            }
            (Self::Removing, false) => {
                *self = Self::Present;
                if is_wanted {
                    RouteStep::Nothing
                } else {
                    RouteStep::RetryRemoval
                }
            }
            (Self::Absent | Self::Present, _) => RouteStep::Nothing,
        }
    }

    /// The call that is out.
    pub(crate) fn under_way(self) -> Option<RouteStep> {
        match self {
            Self::Adding => Some(RouteStep::Add),
            Self::Removing => Some(RouteStep::Remove),
            Self::Absent | Self::Present => None,
        }
    }

    pub(crate) fn is_adding(self) -> bool {
        self == Self::Adding
    }

    pub(crate) fn is_absent(self) -> bool {
        self == Self::Absent
    }
}
