// Bounded error: a field that declares max_error= holds its values rounded, once, where they enter,
// so that every later copy is the same. They lie on multiples of a step: the largest of 1, 2 and
// 5 · 10^n that is at most twice the bound. A step of this kind divides every coarser decimal one,
// so that what a sensor gives in few digits stays as it is.
//
// |rounded - value| <= max_error holds exactly, of the numbers that the cells are, not of decimals
// near them. A value that no multiple is that near to stays what it is: what is not finite, is
// beyond 2^50 steps, or lies in the middle between two multiples whose doubles are too far.
#pragma once

#include "base/schema.hpp"

namespace edgecore {

// Sets the bound, in the field's unit, and the step that follows; 0 takes both away. Invalid when
// the dtype has no numbers, or no step of it is as small, or greater than the dtype's own.
Status set_max_error(Field& field, double bound);

// Of a field that has a step: the multiple of it that a cell's number is rounded to, ties to even;
// the number itself where that is further away than the bound. Integers and decimals are those of
// cells (rows.hpp); what is not in the dtype's or the field's range any more is the caller's care.
double nearest_step(const Field& field, double value);
std::int64_t nearest_step(const Field& field, std::int64_t value);
std::uint64_t nearest_step(const Field& field, std::uint64_t value);

}  // namespace edgecore
