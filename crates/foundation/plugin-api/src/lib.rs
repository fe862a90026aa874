//! What an operator may supply: authentication, settings, quotas, events, balancing, meters.
