//! Faults that the simulation has to find.

/// One way to break what leases promise; planted only in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Holders and granters count the same span, as if clocks were right.
    DriftIgnored,
    /// A holder counts from when the answer came.
    CountedFromReceipt,
    /// A holder goes on after its time.
    LapseIgnored,
    /// A renewal is answered without asking whether this node still leads.
    Unconfirmed,
    /// A new leader ends leases that an earlier one may have renewed.
    EndsEarly,
    /// A request is answered by a grant that an earlier leader proposed.
    ForeignGrantAnswers,
    /// A renewal is answered though the end of the lease is on its way.
    RenewedWhileEnding,
    /// A write is acknowledged though a holder has not applied it.
    HolderNotAwaited,
    /// A new leader acknowledges before the leases of the one before are over.
    AcknowledgesEarly,
    /// A replica is covered that has not applied what was acknowledged.
    LaggardCovered,
    /// A replica that left the range is not awaited though its lease runs.
    LeaverNotAwaited,
}
