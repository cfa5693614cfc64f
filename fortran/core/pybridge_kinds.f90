! SPDX-License-Identifier: MIT
!> Kinds used throughout the core. (`dp` is left free: it names a perturbation of parameters.)
module pybridge_kinds
  use, intrinsic :: iso_fortran_env, only: int8, int32, int64, real32, real64
  implicit none
  private
  public :: rk, sk, i1, i4, i8

  !> Double precision: the default for states, weights and observations
  integer, parameter :: rk = real64
  !> Single precision
  integer, parameter :: sk = real32
  !> Bytes, as read from and written to files
  integer, parameter :: i1 = int8
  integer, parameter :: i4 = int32
  !> Sizes of buffers, which may pass two billion
  integer, parameter :: i8 = int64

end module pybridge_kinds
