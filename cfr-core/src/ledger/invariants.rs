//! What must hold for every account at every moment, as functions. money.md §2.3 names them I1 to I10.
