! SPDX-License-Identifier: MIT
!> Networks and models for FORTRAN 77: external subroutines with arguments by reference.
!>
!> Each has the link name that compilers give to an external subroutine by default, lower case with
!> one underscore (CALL PBNFW is `pbnfw_`), whichever compiler built the library. NET, MODEL and
!> HYBRID are INTEGER*8 variables, ISTAT is an INTEGER status (zero for success), reals are DOUBLE
!> PRECISION. A text comes with its length, as an argument of its own.
!>
!>     CALL PBMSG(ISTAT, TEXT, LTEXT)             sentence for a status, padded with blanks
!>     CALL PBNLD(PATH, LPATH, NET, ISTAT)        load a network
!>     CALL PBNSZ(NET, NIN, NOUT, NPAR, ISTAT)    its sizes
!>     CALL PBNFW(NET, NB, X, Y, ISTAT)           Y(NOUT,NB) of X(NIN,NB)
!>     CALL PBNTL(NET, NB, X, DX, Y, DY, ISTAT)   and tangent linear
!>     CALL PBNAD(NET, NB, X, YAD, Y, XAD, ISTAT) and adjoint, added to XAD(NIN,NB)
!>     CALL PBNFR(NET)                            free it
!>     CALL PBL96(N, DT, FORCE, MODEL, ISTAT)     Lorenz-96
!>     CALL PBUSR(N, NPAR, P, DT, STEP, STEPTL, STEPAD, LINK, MODEL, ISTAT)
!>                                                your own model, see below
!>     CALL PBHYB(MODEL, NET, MODE, IEVERY, NFIX, FIXED, NPER, PERIOD, HYBRID, ISTAT)
!>                                                model with a network's correction, as a model:
!>                                                MODE 0 tendency, 1 increment, 2 forcing
!>     CALL PBMSZ(MODEL, N, NPAR, DT, ISTAT)      sizes and time step
!>     CALL PBMFW(MODEL, K, NSTEP, NMEM, X, ISTAT)       NSTEP steps of X(N,NMEM) from step K
!>     CALL PBMTL(MODEL, K, NSTEP, NMEM, X, DX, ISTAT)   tangent linear about X
!>     CALL PBMAD(MODEL, K, NSTEP, NMEM, X, XAD, ISTAT)  adjoint about X
!>     CALL PBMFR(MODEL)                          free it
!>
!> PBUSR takes three subroutines, declared EXTERNAL: one step from time T, its tangent linear and
!> its adjoint about the state X before the step (XAD in place, PAD added to). LINK is an INTEGER*8
!> array of 3 that must stay as long as the model does.
!>
!>     SUBROUTINE STEP(K, T, N, NPAR, P, X, IERR)
!>     SUBROUTINE STEPTL(K, T, N, NPAR, P, X, DP, DX, IERR)
!>     SUBROUTINE STEPAD(K, T, N, NPAR, P, X, XAD, PAD, IERR)
module pybridge_f77
  use, intrinsic :: iso_c_binding, only: c_char, c_double, c_f_pointer, c_f_procpointer, c_funloc, &
    & c_funptr, c_int, c_int64_t, c_loc, c_null_char, c_ptr
  use pybridge_interface, only: pybridge_model_forecast, pybridge_model_forecast_ad, &
    & pybridge_model_forecast_tl, pybridge_model_free, pybridge_model_hybrid, &
    & pybridge_model_lorenz96, pybridge_model_sizes, pybridge_model_user, &
    & pybridge_model_workspace, pybridge_network_evaluate, pybridge_network_evaluate_ad, &
    & pybridge_network_evaluate_tl, pybridge_network_free, pybridge_network_from_file, &
    & pybridge_network_sizes, pybridge_out_of_memory, pybridge_workspace_ad, &
    & pybridge_workspace_forecast, pybridge_workspace_tl
  use pybridge_status, only: describe_status
  implicit none
  private

  abstract interface

    subroutine f77_step(k, t, n, n_parameters, p, x, ierr) bind(c)
      import :: c_double, c_int
      implicit none
      integer(c_int), intent(in) :: k, n, n_parameters
      real(c_double), intent(in) :: t, p(*)
      real(c_double), intent(inout) :: x(*)
      integer(c_int), intent(inout) :: ierr
    end subroutine f77_step

    subroutine f77_step_tl(k, t, n, n_parameters, p, x, dp, dx, ierr) bind(c)
      import :: c_double, c_int
      implicit none
      integer(c_int), intent(in) :: k, n, n_parameters
      real(c_double), intent(in) :: t, p(*), x(*), dp(*)
      real(c_double), intent(inout) :: dx(*)
      integer(c_int), intent(inout) :: ierr
    end subroutine f77_step_tl

    subroutine f77_step_ad(k, t, n, n_parameters, p, x, x_ad, p_ad, ierr) bind(c)
      import :: c_double, c_int
      implicit none
      integer(c_int), intent(in) :: k, n, n_parameters
      real(c_double), intent(in) :: t, p(*), x(*)
      real(c_double), intent(inout) :: x_ad(*), p_ad(*)
      integer(c_int), intent(inout) :: ierr
    end subroutine f77_step_ad

  end interface

contains

  subroutine message(status, text, n) bind(c, name="pbmsg_")
    integer(c_int), intent(in) :: status, n
    character(kind=c_char), intent(inout) :: text(*)

    character(len=:), allocatable :: sentence
    integer :: i

    call describe_status(status, sentence)
    do i = 1, n
      text(i) = " "
      if (i <= len(sentence)) text(i) = sentence(i:i)
    end do
  end subroutine message

  subroutine network_load(path, n, net, status) bind(c, name="pbnld_")
    integer(c_int), intent(in) :: n
    character(kind=c_char), intent(in) :: path(*)
    type(c_ptr), intent(out) :: net
    integer(c_int), intent(out) :: status

    character(kind=c_char) :: unused(1)
    integer :: length

    ! Trailing blanks belong to the variable, not to the name
    length = n
    do while (length > 0)
      if (path(length) /= " ") exit
      length = length - 1
    end do
    status = pybridge_network_from_file([path(1:length), c_null_char], net, unused, 0_c_int)
  end subroutine network_load

  subroutine network_sizes(net, n_inputs, n_outputs, n_parameters, status) bind(c, name="pbnsz_")
    type(c_ptr), intent(in) :: net
    integer(c_int), intent(out) :: n_inputs, n_outputs, n_parameters, status

    status = pybridge_network_sizes(net, n_inputs, n_outputs, n_parameters)
  end subroutine network_sizes

  subroutine network_forward(net, nb, x, y, status) bind(c, name="pbnfw_")
    type(c_ptr), intent(in) :: net
    integer(c_int), intent(in) :: nb
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: y(*)
    integer(c_int), intent(out) :: status

    status = pybridge_network_evaluate(net, nb, x, y)
  end subroutine network_forward

  subroutine network_tl(net, nb, x, dx, y, dy, status) bind(c, name="pbntl_")
    type(c_ptr), intent(in) :: net
    integer(c_int), intent(in) :: nb
    real(c_double), intent(in) :: x(*), dx(*)
    real(c_double), intent(inout) :: y(*), dy(*)
    integer(c_int), intent(out) :: status

    status = pybridge_network_evaluate_tl(net, nb, x, dx, y, dy)
  end subroutine network_tl

  subroutine network_ad(net, nb, x, y_ad, y, x_ad, status) bind(c, name="pbnad_")
    type(c_ptr), intent(in) :: net
    integer(c_int), intent(in) :: nb
    real(c_double), intent(in) :: x(*), y_ad(*)
    real(c_double), intent(inout) :: y(*), x_ad(*)
    integer(c_int), intent(out) :: status

    status = pybridge_network_evaluate_ad(net, nb, x, y_ad, y, x_ad)
  end subroutine network_ad

  subroutine network_free(net) bind(c, name="pbnfr_")
    type(c_ptr), intent(in) :: net

    call pybridge_network_free(net)
  end subroutine network_free

  subroutine lorenz96(n, dt, forcing, model, status) bind(c, name="pbl96_")
    integer(c_int), intent(in) :: n
    real(c_double), intent(in) :: dt, forcing
    type(c_ptr), intent(out) :: model
    integer(c_int), intent(out) :: status

    status = pybridge_model_lorenz96(n, dt, forcing, model)
  end subroutine lorenz96

  subroutine user(n, n_parameters, parameters, dt, step, step_tl, step_ad, link, model, status) &
    & bind(c, name="pbusr_")
    integer(c_int), intent(in) :: n, n_parameters
    real(c_double), intent(in) :: parameters(*), dt
    procedure(f77_step) :: step
    procedure(f77_step_tl) :: step_tl
    procedure(f77_step_ad) :: step_ad
    type(c_funptr), intent(inout), target :: link(3)
    type(c_ptr), intent(out) :: model
    integer(c_int), intent(out) :: status

    link(1) = c_funloc(step)
    link(2) = c_funloc(step_tl)
    link(3) = c_funloc(step_ad)
    status = pybridge_model_user(n, n_parameters, parameters, dt, c_loc(link), &
      & c_funloc(on_step), c_funloc(on_step_tl), c_funloc(on_step_ad), model)
  end subroutine user

  !> From here the user's procedures are called, by reference as they expect.
  function on_step(context, k, t, n, n_parameters, p, x) result(status) &
    & bind(c, name="")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(*)
    real(c_double), intent(inout) :: x(*)
    integer(c_int) :: status

    type(c_funptr), pointer :: link(:)
    procedure(f77_step), pointer :: step

    call c_f_pointer(context, link, [3])
    call c_f_procpointer(link(1), step)
    status = 0
    call step(k, t, n, n_parameters, p, x, status)
  end function on_step

  function on_step_tl(context, k, t, n, n_parameters, p, x, dp, dx) result(status) &
    & bind(c, name="")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(*), x(*), dp(*)
    real(c_double), intent(inout) :: dx(*)
    integer(c_int) :: status

    type(c_funptr), pointer :: link(:)
    procedure(f77_step_tl), pointer :: step_tl

    call c_f_pointer(context, link, [3])
    call c_f_procpointer(link(2), step_tl)
    status = 0
    call step_tl(k, t, n, n_parameters, p, x, dp, dx, status)
  end function on_step_tl

  function on_step_ad(context, k, t, n, n_parameters, p, x, x_ad, p_ad) result(status) &
    & bind(c, name="")
    type(c_ptr), value :: context
    integer(c_int), value :: k, n, n_parameters
    real(c_double), value :: t
    real(c_double), intent(in) :: p(*), x(*)
    real(c_double), intent(inout) :: x_ad(*), p_ad(*)
    integer(c_int) :: status

    type(c_funptr), pointer :: link(:)
    procedure(f77_step_ad), pointer :: step_ad

    call c_f_pointer(context, link, [3])
    call c_f_procpointer(link(3), step_ad)
    status = 0
    call step_ad(k, t, n, n_parameters, p, x, x_ad, p_ad, status)
  end function on_step_ad

  subroutine hybrid(model, net, mode, every, n_fixed, fixed, n_periods, periods, corrected, &
    & status) bind(c, name="pbhyb_")
    type(c_ptr), intent(in) :: model, net
    integer(c_int), intent(in) :: mode, every, n_fixed, n_periods
    real(c_double), intent(in) :: fixed(*), periods(*)
    type(c_ptr), intent(out) :: corrected
    integer(c_int), intent(out) :: status

    character(kind=c_char) :: unused(1)

    status = pybridge_model_hybrid(model, net, mode, every, n_fixed, fixed, n_periods, periods, &
      & corrected, unused, 0_c_int)
  end subroutine hybrid

  subroutine model_sizes(model, n, n_parameters, dt, status) bind(c, name="pbmsz_")
    type(c_ptr), intent(in) :: model
    integer(c_int), intent(out) :: n, n_parameters, status
    real(c_double), intent(out) :: dt

    integer(c_int) :: n_carry

    status = pybridge_model_sizes(model, n, n_parameters, n_carry, dt)
  end subroutine model_sizes

  subroutine model_forward(model, k, n_steps, n_members, x, status) bind(c, name="pbmfw_")
    type(c_ptr), intent(in) :: model
    integer(c_int), intent(in) :: k, n_steps, n_members
    real(c_double), intent(inout) :: x(*)
    integer(c_int), intent(out) :: status

    real(c_double), allocatable :: work(:)
    integer(c_int) :: failed_member, failed_step

    call allocate_work(model, pybridge_workspace_forecast, n_steps, n_members, work, status)
    if (status /= 0) return
    status = pybridge_model_forecast(model, k, n_steps, 1_c_int, n_members, 1_c_int, x=x, &
      & work=work, n_work=size(work, kind=c_int64_t), failed_member=failed_member, &
      & failed_step=failed_step)
  end subroutine model_forward

  subroutine model_tl(model, k, n_steps, n_members, x, dx, status) bind(c, name="pbmtl_")
    type(c_ptr), intent(in) :: model
    integer(c_int), intent(in) :: k, n_steps, n_members
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: dx(*)
    integer(c_int), intent(out) :: status

    real(c_double), allocatable :: work(:)
    integer(c_int) :: failed_member, failed_step

    call allocate_work(model, pybridge_workspace_tl, n_steps, n_members, work, status)
    if (status /= 0) return
    status = pybridge_model_forecast_tl(model, k, n_steps, n_members, 1_c_int, x=x, dx=dx, &
      & work=work, n_work=size(work, kind=c_int64_t), failed_member=failed_member, &
      & failed_step=failed_step)
  end subroutine model_tl

  subroutine model_ad(model, k, n_steps, n_members, x, x_ad, status) bind(c, name="pbmad_")
    type(c_ptr), intent(in) :: model
    integer(c_int), intent(in) :: k, n_steps, n_members
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: x_ad(*)
    integer(c_int), intent(out) :: status

    real(c_double), allocatable :: work(:)
    integer(c_int) :: failed_member, failed_step

    call allocate_work(model, pybridge_workspace_ad, n_steps, n_members, work, status)
    if (status /= 0) return
    status = pybridge_model_forecast_ad(model, k, n_steps, n_members, 1_c_int, x=x, x_ad=x_ad, &
      & work=work, n_work=size(work, kind=c_int64_t), failed_member=failed_member, &
      & failed_step=failed_step)
  end subroutine model_ad

  subroutine model_free(model) bind(c, name="pbmfr_")
    type(c_ptr), intent(in) :: model

    call pybridge_model_free(model)
  end subroutine model_free

  subroutine allocate_work(model, purpose, n_steps, n_members, work, status)
    type(c_ptr), intent(in) :: model
    integer(c_int), intent(in) :: purpose, n_steps, n_members
    real(c_double), allocatable, intent(out) :: work(:)
    integer(c_int), intent(out) :: status

    integer :: code

    status = 0
    allocate (work(pybridge_model_workspace(model, purpose, n_steps, n_members, 1_c_int)), &
      & stat=code)
    if (code /= 0) status = pybridge_out_of_memory
  end subroutine allocate_work

end module pybridge_f77
