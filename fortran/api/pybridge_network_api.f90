! SPDX-License-Identifier: MIT
!> The C ABI of networks. `pybridge.h` describes each procedure for its callers.
module pybridge_network_api
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_int, &
    & c_int64_t, c_int8_t, c_loc, c_null_char, c_null_ptr, c_ptr
  use pybridge_network, only: network
  use pybridge_network_reader, only: network_from_bytes, network_from_file
  use pybridge_status, only: status_invalid_argument, status_null_handle, status_ok, &
    & status_out_of_memory
  use pybridge_text, only: put_text
  implicit none
  private
  public :: network_handle

  !> What a handle of a network points to
  type :: network_handle
    type(network) :: net
  end type network_handle

contains

  !> Read a network from a file.
  function from_file(path, handle, message, message_length) result(status) &
    & bind(c, name="pybridge_network_from_file")
    character(kind=c_char), intent(in) :: path(*)
    type(c_ptr), intent(out) :: handle
    integer(c_int), value :: message_length
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int) :: status

    type(network_handle), pointer :: new
    character(len=:), allocatable :: text, name

    handle = c_null_ptr
    allocate (new, stat=status)
    if (status /= 0) then
      status = status_out_of_memory
      return
    end if
    call read_text(path, name)
    call network_from_file(name, new%net, status, text)
    call finish(new, handle, status, text, message, message_length)
  end function from_file

  !> Read a network from the bytes of a file.
  function from_bytes(bytes, n_bytes, handle, message, message_length) result(status) &
    & bind(c, name="pybridge_network_from_bytes")
    integer(c_int64_t), value :: n_bytes
    integer(c_int8_t), intent(in) :: bytes(*)
    type(c_ptr), intent(out) :: handle
    integer(c_int), value :: message_length
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int) :: status

    type(network_handle), pointer :: new
    character(len=:), allocatable :: text

    handle = c_null_ptr
    status = status_invalid_argument
    if (n_bytes < 0) return
    allocate (new, stat=status)
    if (status /= 0) then
      status = status_out_of_memory
      return
    end if
    call network_from_bytes(bytes(1:n_bytes), new%net, status, text)
    call finish(new, handle, status, text, message, message_length)
  end function from_bytes

  !> A null-terminated text of C. No function, because gfortran keeps the length of a function's
  !> text in a static variable, which threads that read files would share.
  pure subroutine read_text(buffer, text)
    character(kind=c_char), intent(in) :: buffer(*)
    character(len=:), allocatable, intent(out) :: text

    integer :: i, n

    n = 0
    do while (buffer(n + 1) /= c_null_char)
      n = n + 1
    end do
    allocate (character(len=n) :: text)
    do i = 1, n
      text(i:i) = buffer(i)
    end do
  end subroutine read_text

  !> Hand out a new network, or throw it away where reading failed.
  subroutine finish(new, handle, status, text, message, message_length)
    type(network_handle), pointer, intent(inout) :: new
    type(c_ptr), intent(out) :: handle
    integer(c_int), intent(in) :: status
    character(len=:), allocatable, intent(in) :: text
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int), intent(in) :: message_length

    if (status == status_ok) then
      handle = c_loc(new)
      return
    end if
    deallocate (new)
    handle = c_null_ptr
    if (allocated(text)) call put_text(text, message, message_length)
  end subroutine finish

  !> Free a network. A null handle is left alone.
  subroutine free(handle) bind(c, name="pybridge_network_free")
    type(c_ptr), value :: handle

    type(network_handle), pointer :: this

    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    deallocate (this)
  end subroutine free

  function sizes(handle, n_inputs, n_outputs, n_parameters) result(status) &
    & bind(c, name="pybridge_network_sizes")
    type(c_ptr), value :: handle
    integer(c_int), intent(out) :: n_inputs, n_outputs, n_parameters
    integer(c_int) :: status

    type(network_handle), pointer :: this

    n_inputs = 0
    n_outputs = 0
    n_parameters = 0
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    n_inputs = this%net%n_inputs
    n_outputs = this%net%n_outputs
    n_parameters = this%net%n_parameters
    status = status_ok
  end function sizes

  !> Values that `forward` records; zero for a null handle or an impossible batch.
  function linearisation_size(handle, nb) result(n) &
    & bind(c, name="pybridge_network_linearisation_size")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    integer(c_int64_t) :: n

    type(network_handle), pointer :: this

    n = 0
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    if (this%net%accepts_batch(nb)) n = this%net%linearisation_size(nb)
  end function linearisation_size

  !> Values of scratch space; zero for a null handle or an impossible batch.
  function work_size(handle, nb) result(n) bind(c, name="pybridge_network_work_size")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    integer(c_int64_t) :: n

    type(network_handle), pointer :: this

    n = 0
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    if (this%net%accepts_batch(nb)) n = this%net%work_size(nb)
  end function work_size

  !> Copy out the stored parameters.
  function parameters(handle, p) result(status) bind(c, name="pybridge_network_parameters")
    type(c_ptr), value :: handle
    real(c_double), intent(inout) :: p(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    p(1:this%net%n_parameters) = this%net%parameters
    status = status_ok
  end function parameters

  !> Replace the stored parameters. Not while another thread uses the network.
  function set_parameters(handle, p) result(status) &
    & bind(c, name="pybridge_network_set_parameters")
    type(c_ptr), value :: handle
    real(c_double), intent(in) :: p(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    this%net%parameters(:) = p(1:this%net%n_parameters)
    status = status_ok
  end function set_parameters

  function forward(handle, nb, p, x, y, linearisation, work) result(status) &
    & bind(c, name="pybridge_network_forward")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in), optional :: p(*)
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: y(*), linearisation(*), work(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    if (present(p)) then
      call this%net%forward(nb, p, x, y, linearisation, work)
    else
      call this%net%forward(nb, this%net%parameters, x, y, linearisation, work)
    end if
  end function forward

  function forward_tl(handle, nb, p, linearisation, dx, dp, dy, work) result(status) &
    & bind(c, name="pybridge_network_forward_tl")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in), optional :: p(*), dp(*)
    real(c_double), intent(in) :: linearisation(*), dx(*)
    real(c_double), intent(inout) :: dy(*), work(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    if (present(p)) then
      call this%net%forward_tl(nb, p, linearisation, dx, dy, work, dp)
    else
      call this%net%forward_tl(nb, this%net%parameters, linearisation, dx, dy, work, dp)
    end if
  end function forward_tl

  function forward_ad(handle, nb, p, linearisation, y_ad, x_ad, p_ad, work) result(status) &
    & bind(c, name="pybridge_network_forward_ad")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in), optional :: p(*)
    real(c_double), intent(in) :: linearisation(*), y_ad(*)
    real(c_double), intent(inout) :: x_ad(*), work(*)
    real(c_double), intent(inout), optional :: p_ad(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    if (present(p)) then
      call this%net%forward_ad(nb, p, linearisation, y_ad, x_ad, work, p_ad)
    else
      call this%net%forward_ad(nb, this%net%parameters, linearisation, y_ad, x_ad, work, p_ad)
    end if
  end function forward_ad

  !> The result alone, with the stored parameters and without buffers of the caller.
  function evaluate(handle, nb, x, y) result(status) bind(c, name="pybridge_network_evaluate")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: y(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this
    real(c_double), allocatable :: linearisation(:), work(:)

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    call allocate_buffers(this%net, nb, linearisation, work, status)
    if (status /= status_ok) return
    call this%net%forward(nb, this%net%parameters, x, y, linearisation, work)
  end function evaluate

  !> Result and tangent linear in one call, without buffers of the caller.
  function evaluate_tl(handle, nb, x, dx, y, dy) result(status) &
    & bind(c, name="pybridge_network_evaluate_tl")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in) :: x(*), dx(*)
    real(c_double), intent(inout) :: y(*), dy(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this
    real(c_double), allocatable :: linearisation(:), work(:)

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    call allocate_buffers(this%net, nb, linearisation, work, status)
    if (status /= status_ok) return
    call this%net%forward(nb, this%net%parameters, x, y, linearisation, work)
    call this%net%forward_tl(nb, this%net%parameters, linearisation, dx, dy, work)
  end function evaluate_tl

  !> Result and adjoint in one call, without buffers of the caller; `x_ad` is accumulated.
  function evaluate_ad(handle, nb, x, y_ad, y, x_ad) result(status) &
    & bind(c, name="pybridge_network_evaluate_ad")
    type(c_ptr), value :: handle
    integer(c_int), value :: nb
    real(c_double), intent(in) :: x(*), y_ad(*)
    real(c_double), intent(inout) :: y(*), x_ad(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this
    real(c_double), allocatable :: linearisation(:), work(:)

    call unwrap(handle, nb, this, status)
    if (status /= status_ok) return
    call allocate_buffers(this%net, nb, linearisation, work, status)
    if (status /= status_ok) return
    call this%net%forward(nb, this%net%parameters, x, y, linearisation, work)
    call this%net%forward_ad(nb, this%net%parameters, linearisation, y_ad, x_ad, work)
  end function evaluate_ad

  !> Replay the reference results that came with the network.
  function self_test(handle, message, message_length) result(status) &
    & bind(c, name="pybridge_network_self_test")
    type(c_ptr), value :: handle
    integer(c_int), value :: message_length
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int) :: status

    type(network_handle), pointer :: this
    character(len=:), allocatable :: text

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    call this%net%self_test(status, text)
    if (allocated(text)) call put_text(text, message, message_length)
  end function self_test

  !> The network behind a handle, if the batch is one that it accepts.
  subroutine unwrap(handle, nb, this, status)
    type(c_ptr), intent(in) :: handle
    integer(c_int), intent(in) :: nb
    type(network_handle), pointer, intent(out) :: this
    integer(c_int), intent(out) :: status

    nullify (this)
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, this)
    status = status_invalid_argument
    if (this%net%accepts_batch(nb)) status = status_ok
  end subroutine unwrap

  subroutine allocate_buffers(net, nb, linearisation, work, status)
    type(network), intent(in) :: net
    integer, intent(in) :: nb
    real(c_double), allocatable, intent(out) :: linearisation(:), work(:)
    integer, intent(out) :: status

    integer :: code

    allocate (linearisation(net%linearisation_size(nb)), work(net%work_size(nb)), stat=code)
    status = merge(status_ok, status_out_of_memory, code == 0)
  end subroutine allocate_buffers

end module pybridge_network_api
