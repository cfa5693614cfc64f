! SPDX-License-Identifier: MIT
! The C ABI through the interface source, for compilers that cannot read gfortran's module files.
program other_compiler
  use, intrinsic :: iso_c_binding, only: c_char, c_double, c_int, c_int64_t, &
    & c_null_char, c_ptr
  use pybridge_interface, only: pybridge_correct_increment, pybridge_model_forecast, &
    & pybridge_model_forecast_ad, pybridge_model_forecast_tl, pybridge_model_free, &
    & pybridge_model_hybrid, pybridge_model_lorenz96, pybridge_model_workspace, &
    & pybridge_network_forward, pybridge_network_forward_ad, pybridge_network_forward_tl, &
    & pybridge_network_free, pybridge_network_from_file, pybridge_network_linearisation_size, &
    & pybridge_network_self_test, pybridge_network_work_size, pybridge_ok, &
    & pybridge_status_message, pybridge_workspace_ad
  implicit none
  integer(c_int), parameter :: n = 8, n_steps = 10
  type(c_ptr) :: net, physics, model
  character(kind=c_char) :: message(200)
  character(len=500) :: path
  real(c_double), allocatable :: linearisation(:), work(:)
  real(c_double) :: x(n), dx(n), x_ad(n), y(n), dy(n), y_ad(n)
  integer(c_int) :: failed_member, failed_step
  integer(c_int64_t) :: n_work
  integer :: i

  call get_command_argument(1, path)
  call require(pybridge_network_from_file(as_c(trim(path)), net, message, size(message)))
  call require(pybridge_network_self_test(net, message, size(message)))
  call start()
  allocate (linearisation(pybridge_network_linearisation_size(net, 1)))
  allocate (work(pybridge_network_work_size(net, 1)))
  call require(pybridge_network_forward(net, 1, x=x, y=y, linearisation=linearisation, work=work))
  call require(pybridge_network_forward_tl(net, 1, linearisation=linearisation, dx=dx, dy=dy, &
    & work=work))
  y_ad = x_ad
  x_ad = 0.0_c_double
  call require(pybridge_network_forward_ad(net, 1, linearisation=linearisation, y_ad=y_ad, &
    & x_ad=x_ad, work=work))
  call show("network", y)
  call show("network_tl", dy)
  call show("network_ad", x_ad)

  call require(pybridge_model_lorenz96(n, 0.05_c_double, 8.0_c_double, physics))
  call require(pybridge_model_hybrid(physics, net, pybridge_correct_increment, 1, &
    & 0, [real(c_double) ::], 0, [real(c_double) ::], model, message, size(message)))
  call pybridge_network_free(net)
  call pybridge_model_free(physics)
  n_work = pybridge_model_workspace(model, pybridge_workspace_ad, n_steps, 1, 1)
  deallocate (work)
  allocate (work(n_work))
  call start()
  call require(pybridge_model_forecast_tl(model, 0, n_steps, 1, 1, x=x, dx=dx, work=work, &
    & n_work=n_work, failed_member=failed_member, failed_step=failed_step))
  call require(pybridge_model_forecast_ad(model, 0, n_steps, 1, 1, x=x, x_ad=x_ad, work=work, &
    & n_work=n_work, failed_member=failed_member, failed_step=failed_step))
  call require(pybridge_model_forecast(model, 0, n_steps, 1, 1, 1, x=x, work=work, &
    & n_work=n_work, failed_member=failed_member, failed_step=failed_step))
  call show("hybrid", x)
  call show("hybrid_tl", dx)
  call show("hybrid_ad", x_ad)
  call pybridge_model_free(model)

contains

  subroutine start()
    do i = 1, n
      x(i) = 3.0_c_double + sin(real(i, c_double))
      dx(i) = cos(real(i, c_double))
      x_ad(i) = 1.0_c_double/i
    end do
  end subroutine start

  subroutine show(name, values)
    character(len=*), intent(in) :: name
    real(c_double), intent(in) :: values(:)

    print "(a, *(1x, es24.16))", name, values
  end subroutine show

  pure function as_c(text) result(buffer)
    character(len=*), intent(in) :: text
    character(kind=c_char) :: buffer(len(text) + 1)

    integer :: j

    do j = 1, len(text)
      buffer(j) = text(j:j)
    end do
    buffer(len(text) + 1) = c_null_char
  end function as_c

  subroutine require(status)
    integer(c_int), intent(in) :: status

    if (status == pybridge_ok) return
    call pybridge_status_message(status, message, size(message))
    print "(*(a))", message(1:minloc(abs(iachar(message)), 1) - 1)
    error stop 1
  end subroutine require

end program other_compiler
