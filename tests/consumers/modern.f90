! SPDX-License-Identifier: MIT
! Fortran 2008 with the module files: a network and a hybrid model as objects.
program modern
  use pybridge, only: forecast, forecast_ad, forecast_tl, failure, hybrid_increment_model, &
    & network, network_correction, network_from_file, new_hybrid_increment_model, &
    & new_lorenz96_tendency, new_network_correction, new_runge_kutta_model, rk, status_ok, &
    & workspace_ad, workspace_size
  implicit none
  integer, parameter :: n = 8, n_steps = 10
  type(network) :: net
  type(network_correction) :: correction
  type(hybrid_increment_model) :: model
  type(failure) :: failed
  character(len=:), allocatable :: message
  character(len=500) :: path
  real(rk), allocatable :: linearisation(:), work(:)
  real(rk) :: x(n), dx(n), x_ad(n), y(n), dy(n), y_ad(n)
  integer :: i, status

  call get_command_argument(1, path)
  call network_from_file(trim(path), net, status, message)
  call require(status)
  call start()
  allocate (linearisation(net%linearisation_size(1)), work(net%work_size(1)))
  call net%forward(1, net%parameters, x, y, linearisation, work)
  call net%forward_tl(1, net%parameters, linearisation, dx, dy, work)
  y_ad = x_ad
  x_ad = 0.0_rk
  call net%forward_ad(1, net%parameters, linearisation, y_ad, x_ad, work)
  call show("network", y)
  call show("network_tl", dy)
  call show("network_ad", x_ad)

  call new_network_correction(net, n, [real(rk) ::], [real(rk) ::], correction, status, message)
  call require(status)
  model = new_hybrid_increment_model(new_runge_kutta_model(new_lorenz96_tendency(n, 8.0_rk), &
    & 0.05_rk), correction, 1)
  deallocate (work)
  allocate (work(workspace_size(model, workspace_ad, n_steps, 1, 1)))
  call start()
  call forecast_tl(model, 0, n_steps, 1, 1, model%parameters, x, dx, work, status, failed)
  call require(status)
  call forecast_ad(model, 0, n_steps, 1, 1, model%parameters, x, x_ad, work, status, failed)
  call require(status)
  call forecast(model, 0, n_steps, 1, 1, model%parameters, x, work, status, failed)
  call require(status)
  call show("hybrid", x)
  call show("hybrid_tl", dx)
  call show("hybrid_ad", x_ad)

contains

  subroutine start()
    do i = 1, n
      x(i) = 3.0_rk + sin(real(i, rk))
      dx(i) = cos(real(i, rk))
      x_ad(i) = 1.0_rk/i
    end do
  end subroutine start

  subroutine show(name, values)
    character(len=*), intent(in) :: name
    real(rk), intent(in) :: values(:)

    print "(a, *(1x, es24.16))", name, values
  end subroutine show

  subroutine require(code)
    integer, intent(in) :: code

    if (code == status_ok) return
    if (allocated(message)) print "(a)", message
    error stop 1
  end subroutine require

end program modern
