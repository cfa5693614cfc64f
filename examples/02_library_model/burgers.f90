! SPDX-License-Identifier: MIT
! Your own model by the second door: three procedures with C linkage in a shared library. Nothing of
! pybridge is needed to build it:
!
!     gfortran -O2 -shared -fPIC burgers.f90 -o burgers.so
!
! The model is Burgers' equation with damping on a ring of n points,
!
!     du/dt = -u du/dx + nu d2u/dx2 - r u,    parameters (nu, r),
!
! by centred differences and Euler's forward scheme. Time step and spacing are constants of it.
module burgers
  use, intrinsic :: iso_c_binding, only: c_double, c_int, c_ptr
  implicit none
  private
  public :: step, step_tl, step_ad

  real(c_double), parameter :: dt = 0.02_c_double
  real(c_double), parameter :: spacing = 0.25_c_double
  !> What an advection term, and a diffusion term, is multiplied with
  real(c_double), parameter :: a = dt/(2.0_c_double*spacing), d = dt/spacing**2

contains

  !> u <- u after one step.
  function step(context, k, t, n, n_parameters, p, x) result(status) bind(c, name="step")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(n_parameters)
    real(c_double), intent(inout) :: x(n)
    !> Zero; anything else is a failure
    integer(c_int) :: status

    real(c_double) :: east(n), west(n)

    associate (unused_context => context, unused_k => k, unused_t => t)
    end associate
    east = cshift(x, 1)
    west = cshift(x, -1)
    x = x - a*x*(east - west) + p(1)*d*(east - 2.0_c_double*x + west) - p(2)*dt*x
    status = 0
  end function step

  !> Tangent linear about the state x before the step: dx <- perturbation after the step.
  function step_tl(context, k, t, n, n_parameters, p, x, dp, dx) result(status) &
    & bind(c, name="step_tl")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(n_parameters)
    real(c_double), intent(in) :: x(n)
    real(c_double), intent(in) :: dp(n_parameters)
    real(c_double), intent(inout) :: dx(n)
    integer(c_int) :: status

    real(c_double) :: east(n), west(n), d_east(n), d_west(n)

    associate (unused_context => context, unused_k => k, unused_t => t)
    end associate
    east = cshift(x, 1)
    west = cshift(x, -1)
    d_east = cshift(dx, 1)
    d_west = cshift(dx, -1)
    dx = dx - a*(dx*(east - west) + x*(d_east - d_west)) &
      & + p(1)*d*(d_east - 2.0_c_double*dx + d_west) - p(2)*dt*dx &
      & + dp(1)*d*(east - 2.0_c_double*x + west) - dp(2)*dt*x
    status = 0
  end function step_tl

  !> Adjoint: x_ad <- adjoint before the step; p_ad <- p_ad + that of the parameters.
  function step_ad(context, k, t, n, n_parameters, p, x, x_ad, p_ad) result(status) &
    & bind(c, name="step_ad")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(n_parameters)
    real(c_double), intent(in) :: x(n)
    real(c_double), intent(inout) :: x_ad(n)
    real(c_double), intent(inout) :: p_ad(n_parameters)
    integer(c_int) :: status

    real(c_double) :: east(n), west(n), spread(n)

    associate (unused_context => context, unused_k => k, unused_t => t)
    end associate
    east = cshift(x, 1)
    west = cshift(x, -1)
    p_ad(1) = p_ad(1) + sum(d*(east - 2.0_c_double*x + west)*x_ad)
    p_ad(2) = p_ad(2) - dt*sum(x*x_ad)
    ! The adjoint of a shift is the opposite shift
    spread = x*x_ad
    x_ad = x_ad - a*((east - west)*x_ad + cshift(spread, -1) - cshift(spread, 1)) &
      & + p(1)*d*(cshift(x_ad, -1) - 2.0_c_double*x_ad + cshift(x_ad, 1)) - p(2)*dt*x_ad
    status = 0
  end function step_ad

end module burgers
