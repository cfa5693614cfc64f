! SPDX-License-Identifier: MIT
!> Runs of a forecast model over many steps and members, with their tangent linear and adjoint.
!>
!> Members are independent, and may be shared among OpenMP threads: the results do not depend on
!> the number of threads, bit for bit. All buffers are the caller's; `workspace_size` tells how
!> large they are.
module pybridge_trajectory
  use, intrinsic :: iso_c_binding, only: c_loc
  !$ use omp_lib, only: omp_get_thread_num
  use pybridge_finite, only: is_bounded
  use pybridge_forecast_model, only: forecast_model
  use pybridge_kinds, only: i8, rk
  use pybridge_status, only: status_blow_up, status_ok
  implicit none
  private
  public :: forecast, forecast_tl, forecast_ad, workspace_size

  !> What a workspace is for
  integer, parameter, public :: workspace_forecast = 0
  integer, parameter, public :: workspace_tl = 1
  integer, parameter, public :: workspace_ad = 2

  !> Where a run failed: member (from 1), and step (from 1) within the run; zero for no failure
  type, public :: failure
    integer :: member = 0
    integer :: step = 0
  end type failure

  !> Values in a cache line
  integer(i8), parameter :: line_size = 8_i8
  !> Members whose parameter adjoints are summed one after another. It fixes the order of the sum,
  !> whatever the number of threads.
  integer, parameter :: chunk_size = 16

contains

  !> Values of workspace that a run needs.
  pure function workspace_size(model, purpose, n_steps, n_members, n_threads) result(n_values)
    class(forecast_model), intent(in) :: model
    !> workspace_forecast, workspace_tl or workspace_ad
    integer, intent(in) :: purpose
    integer, intent(in) :: n_steps
    integer, intent(in) :: n_members
    integer, intent(in) :: n_threads
    integer(i8) :: n_values

    integer :: n_team

    n_team = team_size(purpose, n_members, n_threads)
    n_values = huge(n_values)
    ! A number of values that cannot be counted must not look like a small one
    if (n_team*(real(n_records(purpose, n_steps), rk)*model%n_linearisation + 2.0_rk*model%n &
      & + model%n_work) > 0.5_rk*real(huge(n_values), rk)) return
    n_values = line_size + n_team*thread_size(model, purpose, n_steps)
    if (purpose == workspace_ad) &
      & n_values = n_values + int(n_chunks(n_members), i8)*model%n_parameters
  end function workspace_size

  !> Values of workspace of one thread, a whole number of cache lines.
  pure function thread_size(model, purpose, n_steps) result(n_values)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: purpose
    integer, intent(in) :: n_steps
    integer(i8) :: n_values

    integer :: n_states

    n_states = merge(1, 2, purpose == workspace_forecast)
    n_values = n_records(purpose, n_steps)*model%n_linearisation + int(n_states, i8)*model%n &
      & + model%n_work
    n_values = (n_values + line_size - 1_i8)/line_size*line_size
  end function thread_size

  !> Linearisations that a run keeps at a time.
  pure function n_records(purpose, n_steps)
    integer, intent(in) :: purpose
    integer, intent(in) :: n_steps
    integer(i8) :: n_records

    n_records = 1_i8
    if (purpose == workspace_ad) n_records = int(n_steps, i8) + 1_i8
  end function n_records

  !> Where the first cache line begins in a workspace. Vectors that cross lines cost a small model
  !> up to half its speed.
  function first_line(work) result(first)
    real(rk), intent(in), target :: work(*)
    integer(i8) :: first

    integer(i8) :: address

    address = transfer(c_loc(work), address)
    first = 1_i8 + modulo(-address/8_i8, line_size)
  end function first_line

  !> Threads that a run employs: no more than there is work for.
  pure function team_size(purpose, n_members, n_threads) result(n_team)
    integer, intent(in) :: purpose
    integer, intent(in) :: n_members
    integer, intent(in) :: n_threads
    integer :: n_team

    n_team = n_members
    if (purpose == workspace_ad) n_team = n_chunks(n_members)
    n_team = max(1, min(n_team, n_threads))
  end function team_size

  !> Advance every member by `n_steps` steps, in place.
  subroutine forecast(model, k, n_steps, n_members, n_threads, p, x, work, status, failed, &
    & every, trajectory)
    class(forecast_model), intent(in) :: model
    !> Number of the first step: steps since time zero
    integer, intent(in) :: k
    integer, intent(in) :: n_steps
    integer, intent(in) :: n_members
    !> OpenMP threads; one runs without OpenMP
    integer, intent(in) :: n_threads
    real(rk), intent(in) :: p(model%n_parameters)
    !> States, before and after. A member that fails keeps the state it started from
    real(rk), intent(inout) :: x(model%n_state, n_members)
    !> Scratch space, `workspace_size` values
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    !> The first member that failed, and its step
    type(failure), intent(out) :: failed
    !> Steps between stored states; with `trajectory`
    integer, intent(in), optional :: every
    !> States after 0, every, 2*every, … steps
    real(rk), intent(inout), optional :: trajectory(:, :, :)

    integer(i8) :: origin, stride
    integer :: m, n_team

    status = status_ok
    stride = thread_size(model, workspace_forecast, n_steps)
    origin = first_line(work)
    n_team = team_size(workspace_forecast, n_members, n_threads)
    ! Entering a parallel region costs more than a step of a small model: only on demand
    if (n_team > 1) then
      !$omp parallel do num_threads(n_team) schedule(static)
      do m = 1, n_members
        call run_member(m)
      end do
      !$omp end parallel do
    else
      do m = 1, n_members
        call run_member(m)
      end do
    end if

  contains

    subroutine run_member(m)
      integer, intent(in) :: m

      integer :: status_m, failed_step

      call forecast_one(model, k, n_steps, m, p, x(:, m), work(slot(n_team, origin, stride)), &
        & status_m, failed_step, every, trajectory)
      if (status_m == status_ok) return
      !$omp critical
      call note_failure(m, status_m, failed_step, status, failed)
      !$omp end critical
    end subroutine run_member

  end subroutine forecast

  !> The run of one member.
  subroutine forecast_one(model, k, n_steps, m, p, x, work, status, failed_step, every, trajectory)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: k, n_steps, m
    real(rk), intent(in) :: p(model%n_parameters)
    real(rk), intent(inout) :: x(model%n_state)
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    integer, intent(out) :: failed_step
    integer, intent(in), optional :: every
    real(rk), intent(inout), optional :: trajectory(:, :, :)

    integer :: n, step_in_run, record, scratch

    n = model%n
    record = n
    scratch = n + model%n_linearisation
    failed_step = 0
    work(1:model%n_state) = x
    call model%start(k, p, work, work(record + 1), work(scratch + 1), status)
    if (present(trajectory)) trajectory(:, 1, m) = x
    do step_in_run = 1, n_steps
      if (status == status_ok) call model%step(k + step_in_run - 1, p, work, work(record + 1), &
        & work(scratch + 1), status)
      if (status == status_ok) then
        if (.not. is_bounded(n, work, model%blow_up_limit)) status = status_blow_up
      end if
      if (status /= status_ok) then
        failed_step = step_in_run
        return
      end if
      if (present(trajectory)) then
        if (mod(step_in_run, every) == 0) &
          & trajectory(:, step_in_run/every + 1, m) = work(1:model%n_state)
      end if
    end do
    x = work(1:model%n_state)
  end subroutine forecast_one

  !> Tangent linear of `forecast` about the trajectory that starts at `x`.
  subroutine forecast_tl(model, k, n_steps, n_members, n_threads, p, x, dx, work, status, failed, &
    & dp)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: k
    integer, intent(in) :: n_steps
    integer, intent(in) :: n_members
    integer, intent(in) :: n_threads
    real(rk), intent(in) :: p(model%n_parameters)
    !> States before the run
    real(rk), intent(in) :: x(model%n_state, n_members)
    !> Perturbations, before and after
    real(rk), intent(inout) :: dx(model%n_state, n_members)
    !> Scratch space, `workspace_size` values
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    type(failure), intent(out) :: failed
    !> Perturbation of the parameters, one for all members; absent means zero
    real(rk), intent(in), optional :: dp(model%n_parameters)

    integer(i8) :: origin, stride
    integer :: m, n_team

    status = status_ok
    stride = thread_size(model, workspace_tl, n_steps)
    origin = first_line(work)
    n_team = team_size(workspace_tl, n_members, n_threads)
    if (n_team > 1) then
      !$omp parallel do num_threads(n_team) schedule(static)
      do m = 1, n_members
        call run_member(m)
      end do
      !$omp end parallel do
    else
      do m = 1, n_members
        call run_member(m)
      end do
    end if

  contains

    subroutine run_member(m)
      integer, intent(in) :: m

      integer :: status_m, failed_step

      call tangent_linear_one(model, k, n_steps, p, x(:, m), dx(:, m), &
        & work(slot(n_team, origin, stride)), status_m, failed_step, dp)
      if (status_m == status_ok) return
      !$omp critical
      call note_failure(m, status_m, failed_step, status, failed)
      !$omp end critical
    end subroutine run_member

  end subroutine forecast_tl

  subroutine tangent_linear_one(model, k, n_steps, p, x, dx, work, status, failed_step, dp)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: k, n_steps
    real(rk), intent(in) :: p(model%n_parameters)
    real(rk), intent(in) :: x(model%n_state)
    real(rk), intent(inout) :: dx(model%n_state)
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    integer, intent(out) :: failed_step
    real(rk), intent(in), optional :: dp(model%n_parameters)

    integer :: n, step_in_run, perturbation, record, scratch

    n = model%n
    perturbation = n
    record = 2*n
    scratch = record + model%n_linearisation
    failed_step = 0
    work(1:model%n_state) = x
    work(perturbation + 1:perturbation + model%n_state) = dx
    call model%start(k, p, work, work(record + 1), work(scratch + 1), status)
    if (status == status_ok) call model%start_tl(k, p, work(record + 1), work(perturbation + 1), &
      & work(scratch + 1), status, dp)
    do step_in_run = 1, n_steps
      if (status == status_ok) call model%step(k + step_in_run - 1, p, work, work(record + 1), &
        & work(scratch + 1), status)
      if (status == status_ok) then
        if (.not. is_bounded(n, work, model%blow_up_limit)) status = status_blow_up
      end if
      if (status == status_ok) call model%step_tl(k + step_in_run - 1, p, work(record + 1), &
        & work(perturbation + 1), work(scratch + 1), status, dp)
      if (status == status_ok) then
        if (.not. is_bounded(n, work(perturbation + 1), huge(1.0_rk))) status = status_blow_up
      end if
      if (status /= status_ok) then
        failed_step = step_in_run
        return
      end if
    end do
    dx = work(perturbation + 1:perturbation + model%n_state)
  end subroutine tangent_linear_one

  !> Adjoint of `forecast` about the trajectory that starts at `x`, which is run first and stored.
  subroutine forecast_ad(model, k, n_steps, n_members, n_threads, p, x, x_ad, work, status, &
    & failed, p_ad)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: k
    integer, intent(in) :: n_steps
    integer, intent(in) :: n_members
    integer, intent(in) :: n_threads
    real(rk), intent(in) :: p(model%n_parameters)
    !> States before the run
    real(rk), intent(in) :: x(model%n_state, n_members)
    !> Adjoint of the states, after (on entry) and before (on return) the run
    real(rk), intent(inout) :: x_ad(model%n_state, n_members)
    !> Scratch space, `workspace_size` values
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    type(failure), intent(out) :: failed
    !> Adjoint of the parameters, the members' sum, accumulated; absent means not wanted
    real(rk), intent(inout), optional :: p_ad(model%n_parameters)

    integer(i8) :: origin, stride, sums
    integer :: c, i, n_p, n_team

    status = status_ok
    n_p = model%n_parameters
    stride = thread_size(model, workspace_ad, n_steps)
    origin = first_line(work)
    ! The chunks' sums stand behind the threads' scratch space
    n_team = team_size(workspace_ad, n_members, n_threads)
    sums = origin - 1_i8 + stride*n_team
    if (present(p_ad)) then
      do c = 1, n_chunks(n_members)
        do i = 1, n_p
          work(sums + int(c - 1, i8)*n_p + i) = 0.0_rk
        end do
      end do
    end if
    if (n_team > 1) then
      !$omp parallel do num_threads(n_team) schedule(static)
      do c = 1, n_chunks(n_members)
        call run_chunk(c)
      end do
      !$omp end parallel do
    else
      do c = 1, n_chunks(n_members)
        call run_chunk(c)
      end do
    end if
    if (.not. present(p_ad)) return
    do c = 1, n_chunks(n_members)
      do i = 1, n_p
        p_ad(i) = p_ad(i) + work(sums + int(c - 1, i8)*n_p + i)
      end do
    end do

  contains

    !> The members whose parameter adjoints are summed one after another.
    subroutine run_chunk(c)
      integer, intent(in) :: c

      integer(i8) :: own
      integer :: m, status_m, failed_step

      own = slot(n_team, origin, stride)
      do m = (c - 1)*chunk_size + 1, min(c*chunk_size, n_members)
        if (present(p_ad)) then
          call adjoint_one(model, k, n_steps, p, x(:, m), x_ad(:, m), work(own), status_m, &
            & failed_step, work(sums + int(c - 1, i8)*n_p + 1))
        else
          call adjoint_one(model, k, n_steps, p, x(:, m), x_ad(:, m), work(own), status_m, &
            & failed_step)
        end if
        if (status_m == status_ok) cycle
        !$omp critical
        call note_failure(m, status_m, failed_step, status, failed)
        !$omp end critical
      end do
    end subroutine run_chunk

  end subroutine forecast_ad

  subroutine adjoint_one(model, k, n_steps, p, x, x_ad, work, status, failed_step, p_ad)
    class(forecast_model), intent(in) :: model
    integer, intent(in) :: k, n_steps
    real(rk), intent(in) :: p(model%n_parameters)
    real(rk), intent(in) :: x(model%n_state)
    real(rk), intent(inout) :: x_ad(model%n_state)
    real(rk), intent(inout) :: work(*)
    integer, intent(out) :: status
    integer, intent(out) :: failed_step
    real(rk), intent(inout), optional :: p_ad(model%n_parameters)

    integer :: n, step_in_run, adjoint, scratch
    integer(i8) :: records, n_record

    n = model%n
    n_record = model%n_linearisation
    adjoint = n
    scratch = 2*n
    records = scratch + model%n_work
    failed_step = 0
    work(1:model%n_state) = x
    call model%start(k, p, work, work(records + 1), work(scratch + 1), status)
    do step_in_run = 1, n_steps
      if (status == status_ok) call model%step(k + step_in_run - 1, p, work, &
        & work(records + step_in_run*n_record + 1), work(scratch + 1), status)
      if (status == status_ok) then
        if (.not. is_bounded(n, work, model%blow_up_limit)) status = status_blow_up
      end if
      if (status /= status_ok) then
        failed_step = step_in_run
        return
      end if
    end do
    work(adjoint + 1:adjoint + model%n_state) = x_ad
    work(adjoint + model%n_state + 1:adjoint + n) = 0.0_rk
    do step_in_run = n_steps, 1, -1
      if (status == status_ok) call model%step_ad(k + step_in_run - 1, p, &
        & work(records + step_in_run*n_record + 1), work(adjoint + 1), work(scratch + 1), status, &
        & p_ad)
      if (status == status_ok) then
        if (.not. is_bounded(n, work(adjoint + 1), huge(1.0_rk))) status = status_blow_up
      end if
      if (status /= status_ok) then
        failed_step = step_in_run
        return
      end if
    end do
    call model%start_ad(k, p, work(records + 1), work(adjoint + 1), work(scratch + 1), status, p_ad)
    x_ad = work(adjoint + 1:adjoint + model%n_state)
  end subroutine adjoint_one

  !> Keep the failure of the lowest member.
  pure subroutine note_failure(member, status_member, step, status, failed)
    integer, intent(in) :: member, status_member, step
    integer, intent(inout) :: status
    type(failure), intent(inout) :: failed

    if (status_member == status_ok) return
    if (status /= status_ok .and. failed%member < member) return
    status = status_member
    failed%member = member
    failed%step = step
  end subroutine note_failure

  !> Where the calling thread's scratch space begins.
  function slot(n_team, origin, stride) result(first)
    integer, intent(in) :: n_team
    !> Where the first thread's begins
    integer(i8), intent(in) :: origin
    integer(i8), intent(in) :: stride
    integer(i8) :: first

    first = origin
    if (n_team == 1) return
    !$ first = origin + stride*omp_get_thread_num()
    associate (unused => stride)
    end associate
  end function slot

  pure function n_chunks(n_members)
    integer, intent(in) :: n_members
    integer :: n_chunks

    n_chunks = (n_members + chunk_size - 1)/chunk_size
  end function n_chunks

end module pybridge_trajectory
