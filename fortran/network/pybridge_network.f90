! SPDX-License-Identifier: MIT
!> A network: a graph of layers, with its tangent linear and adjoint.
!>
!> The network is `intent(in)` in its verbs, and these allocate nothing: one network serves many
!> threads. The parameters are an argument, because weights may be control variables; their default
!> is the component `parameters`.
!>
!> Per sample, the network has one flat input vector (its inputs one after the other, each in C
!> order) and one flat output vector. `forward` keeps in `linearisation` the values of all tensors
!> and the derivatives of all activations; tangent linear and adjoint compute neither anew.
module pybridge_network
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: layer, layer_config, n_values, reject, tensor_shape
  use pybridge_layer_factory, only: new_layer
  use pybridge_status, only: status_file_format, status_invalid_argument, status_ok, &
    & status_out_of_memory, status_self_test
  implicit none
  private
  public :: network, network_reference, tensor_reference

  !> One tensor of the graph: output number `output` of node number `node`
  type :: tensor_reference
    integer :: node = 0
    integer :: output = 1
  end type tensor_reference

  !> An input (which has no layer), or a layer applied to some tensors
  type :: network_node
    class(layer), allocatable :: layer
    character(len=:), allocatable :: name
    type(tensor_reference), allocatable :: sources(:)
    !> Shape of each output
    type(tensor_shape), allocatable :: shapes(:)
    !> Values in each output, per sample
    integer, allocatable :: lengths(:)
    !> Where each output begins among all values of a sample, less one
    integer(i8), allocatable :: offsets(:)
    !> Where the layer's input begins
    integer(i8) :: input_offset = 0
    !> The inputs are copied there, because they do not lie one after the other
    logical :: gathers = .false.
    !> Where the layer's record begins, less one
    integer(i8) :: record_offset = 0
    integer :: parameter_offset = 0
  end type network_node

  !> A result of the original network, to be reproduced
  type :: network_reference
    real(rk), allocatable :: x(:)
    real(rk), allocatable :: y(:)
    real(rk), allocatable :: dx(:)
    real(rk), allocatable :: dy(:)
    real(rk), allocatable :: y_ad(:)
    real(rk), allocatable :: x_ad(:)
    !> Perturbation of the parameters, or of size zero
    real(rk), allocatable :: dp(:)
    !> Adjoint of the parameters, or of size zero
    real(rk), allocatable :: p_ad(:)
  end type network_reference

  type :: network
    !> Values of one sample's input, over all inputs
    integer :: n_inputs = 0
    !> Values of one sample's output, over all outputs
    integer :: n_outputs = 0
    integer :: n_parameters = 0
    !> Bytes of a number in the original network: 4 or 8
    integer :: precision = 8
    !> Default parameters, shape (n_parameters)
    real(rk), allocatable :: parameters(:)
    !> Results of the original network
    type(network_reference), allocatable :: references(:)
    !> In topological order
    type(network_node), allocatable :: nodes(:)
    !> Number of nodes so far
    integer :: n_nodes = 0
    type(tensor_reference), allocatable :: outputs(:)
    !> Values of all tensors of one sample
    integer(i8) :: n_values = 0
    !> Values of all records of one sample
    integer(i8) :: n_records = 0
    !> Scratch space of the layer that needs most, per sample
    integer :: n_layer_work = 0
    !> Values of the largest tensor, per sample
    integer :: n_largest = 1
  contains
    procedure :: start
    procedure :: add_input
    procedure :: add_layer
    procedure :: set_outputs
    procedure :: accepts_batch
    procedure :: linearisation_size
    procedure :: work_size
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
    procedure :: self_test
  end type network

contains

  !> Begin a network of so many nodes.
  subroutine start(self, n_nodes, parameters, status)
    class(network), intent(out) :: self
    !> Inputs and layers that will be added
    integer, intent(in) :: n_nodes
    !> Default parameters
    real(rk), intent(in) :: parameters(:)
    integer, intent(out) :: status

    allocate (self%nodes(n_nodes), self%parameters(size(parameters)), self%outputs(0), &
      & self%references(0), stat=status)
    if (status /= 0) then
      status = status_out_of_memory
      return
    end if
    status = status_ok
    self%parameters(:) = parameters
    self%n_parameters = size(parameters)
  end subroutine start

  !> Add an input. All inputs come before all layers.
  pure subroutine add_input(self, name, shape, status, message)
    class(network), intent(inout) :: self
    character(len=*), intent(in) :: name
    !> Shape of one sample
    type(tensor_shape), intent(in) :: shape
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer :: n

    n = n_values(shape)
    status = status_file_format
    if (self%n_nodes >= size(self%nodes)) then
      message = "input '" // name // "' is one node too many"
      return
    else if (self%n_values > self%n_inputs) then
      message = "input '" // name // "' comes after a layer"
      return
    else if (n < 0 .or. int(n, i8) + self%n_inputs > huge(n)) then
      message = "input '" // name // "' has a wrong size"
      return
    end if
    self%n_nodes = self%n_nodes + 1
    associate (node => self%nodes(self%n_nodes))
      node%name = name
      allocate (node%sources(0))
      allocate (node%shapes(1))
      node%shapes(1) = shape
      node%lengths = [n]
      node%offsets = [self%n_values]
    end associate
    self%n_values = self%n_values + n
    self%n_inputs = self%n_inputs + n
    self%n_largest = max(self%n_largest, self%n_inputs)
    status = status_ok
  end subroutine add_input

  !> Add a layer, whose inputs are tensors of nodes added before.
  subroutine add_layer(self, config, sources, status, message)
    class(network), intent(inout) :: self
    type(layer_config), intent(in) :: config
    type(tensor_reference), intent(in) :: sources(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(tensor_shape), allocatable :: inputs(:)
    integer :: i
    integer(i8) :: next, n
    logical :: adjacent

    if (self%n_nodes >= size(self%nodes)) then
      call reject(config, "is one node too many", status, message)
      return
    else if (int(config%parameter_offset, i8) + config%n_parameters > self%n_parameters) then
      call reject(config, "its parameters are not within the network's", status, message)
      return
    end if
    allocate (inputs(size(sources)))
    do i = 1, size(sources)
      if (.not. exists(self, sources(i))) then
        call reject(config, "its input is no tensor that comes before it", status, message)
        return
      end if
      inputs(i) = self%nodes(sources(i)%node)%shapes(sources(i)%output)
    end do
    associate (node => self%nodes(self%n_nodes + 1))
      call new_layer(config, inputs, node%layer, node%shapes, status, message)
      if (status /= status_ok) return
      node%name = config%name
      node%sources = sources
      node%parameter_offset = config%parameter_offset
      node%lengths = [(n_values(node%shapes(i)), i=1, size(node%shapes))]
      n = 0
      adjacent = .true.
      next = self%nodes(sources(1)%node)%offsets(sources(1)%output)
      node%input_offset = next
      do i = 1, size(sources)
        associate (source => self%nodes(sources(i)%node))
          if (source%offsets(sources(i)%output) /= next) adjacent = .false.
          next = next + source%lengths(sources(i)%output)
          n = n + source%lengths(sources(i)%output)
        end associate
      end do
      if (any(node%lengths < 0) .or. n /= node%layer%n_in &
        & .or. sum(int(node%lengths, i8)) /= node%layer%n_out) then
        call reject(config, "its sizes do not agree", status, message)
        return
      end if
      if (.not. adjacent) then
        node%gathers = .true.
        node%input_offset = self%n_values
        self%n_values = self%n_values + node%layer%n_in
      end if
      if (node%layer%is_identity) then
        node%offsets = [node%input_offset]
      else
        node%offsets = [(self%n_values + sum(int(node%lengths(:i - 1), i8)), &
          & i=1, size(node%lengths))]
        self%n_values = self%n_values + node%layer%n_out
      end if
      node%record_offset = self%n_records
      self%n_records = self%n_records + node%layer%n_record
      self%n_layer_work = max(self%n_layer_work, node%layer%n_work)
      self%n_largest = max(self%n_largest, node%layer%n_in, node%layer%n_out, &
        & node%layer%n_record, node%layer%n_work)
    end associate
    self%n_nodes = self%n_nodes + 1
  end subroutine add_layer

  !> Say which tensors are the outputs, and in which order. To be called last.
  pure subroutine set_outputs(self, outputs, status, message)
    class(network), intent(inout) :: self
    type(tensor_reference), intent(in) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer :: i
    integer(i8) :: n

    status = status_file_format
    n = 0
    do i = 1, size(outputs)
      if (.not. exists(self, outputs(i))) then
        message = "an output is no tensor of the network"
        return
      end if
      n = n + self%nodes(outputs(i)%node)%lengths(outputs(i)%output)
    end do
    if (size(outputs) < 1 .or. n > huge(1)) then
      message = "there are no outputs, or they are too large"
      return
    end if
    self%outputs = outputs
    self%n_outputs = int(n)
    self%n_largest = max(self%n_largest, self%n_outputs)
    status = status_ok
  end subroutine set_outputs

  !> Whether a tensor has been added already.
  pure function exists(self, tensor) result(answer)
    type(network), intent(in) :: self
    type(tensor_reference), intent(in) :: tensor
    logical :: answer

    answer = tensor%node >= 1 .and. tensor%node <= self%n_nodes .and. tensor%output >= 1
    if (answer) answer = tensor%output <= size(self%nodes(tensor%node)%lengths)
  end function exists

  !> Whether a batch is at least one and not too large for default integers to count its values.
  pure function accepts_batch(self, nb) result(answer)
    class(network), intent(in) :: self
    !> Number of samples
    integer, intent(in) :: nb
    logical :: answer

    answer = nb >= 1 .and. int(self%n_largest, i8)*nb <= huge(nb)
  end function accepts_batch

  !> Values that `forward` records for a batch.
  pure function linearisation_size(self, nb) result(n)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    integer(i8) :: n

    n = (self%n_values + self%n_records)*nb
  end function linearisation_size

  !> Values of scratch space for a batch.
  pure function work_size(self, nb) result(n)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    integer(i8) :: n

    n = (self%n_values + self%n_layer_work)*nb
  end function work_size

  !> `y <- f(p, x)`
  subroutine forward(self, nb, p, x, y, linearisation, work)
    class(network), intent(in) :: self
    !> Number of samples
    integer, intent(in) :: nb
    !> Parameters
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_inputs, nb)
    real(rk), intent(out) :: y(self%n_outputs, nb)
    !> Record for `forward_tl` and `forward_ad`
    real(rk), intent(inout) :: linearisation((self%n_values + self%n_records)*nb)
    !> Scratch space
    real(rk), intent(inout) :: work((self%n_values + self%n_layer_work)*nb)

    integer :: i
    integer(i8) :: a, b, c

    call split_inputs(self, nb, x, linearisation)
    do i = 1, self%n_nodes
      associate (node => self%nodes(i))
        if (.not. allocated(node%layer)) cycle
        if (node%gathers) call gather(self, node, nb, linearisation)
        if (node%layer%is_identity) cycle
        a = node%input_offset*nb
        b = node%offsets(1)*nb
        c = (self%n_values + node%record_offset)*nb
        call node%layer%forward(nb, &
          & p(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters), &
          & linearisation(a + 1:a + int(node%layer%n_in, i8)*nb), &
          & linearisation(b + 1:b + int(node%layer%n_out, i8)*nb), &
          & linearisation(c + 1:c + int(node%layer%n_record, i8)*nb), &
          & work(1:int(node%layer%n_work, i8)*nb))
      end associate
    end do
    call join_outputs(self, nb, linearisation, y)
  end subroutine forward

  !> `dy <- (df/dx) dx + (df/dp) dp`
  subroutine forward_tl(self, nb, p, linearisation, dx, dy, work, dp)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    !> What `forward` recorded
    real(rk), intent(in) :: linearisation((self%n_values + self%n_records)*nb)
    real(rk), intent(in) :: dx(self%n_inputs, nb)
    real(rk), intent(out) :: dy(self%n_outputs, nb)
    real(rk), intent(inout) :: work((self%n_values + self%n_layer_work)*nb)
    !> Perturbation of the parameters; absent means zero
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i
    integer(i8) :: a, b, c, w

    call split_inputs(self, nb, dx, work)
    w = self%n_values*nb
    do i = 1, self%n_nodes
      associate (node => self%nodes(i))
        if (.not. allocated(node%layer)) cycle
        if (node%gathers) call gather(self, node, nb, work)
        if (node%layer%is_identity) cycle
        a = node%input_offset*nb
        b = node%offsets(1)*nb
        c = (self%n_values + node%record_offset)*nb
        if (present(dp) .and. node%layer%n_parameters > 0) then
          call node%layer%forward_tl(nb, &
            & p(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters), &
            & linearisation(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & linearisation(c + 1:c + int(node%layer%n_record, i8)*nb), &
            & work(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & work(b + 1:b + int(node%layer%n_out, i8)*nb), &
            & work(w + 1:w + int(node%layer%n_work, i8)*nb), &
            & dp(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters))
        else
          call node%layer%forward_tl(nb, &
            & p(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters), &
            & linearisation(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & linearisation(c + 1:c + int(node%layer%n_record, i8)*nb), &
            & work(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & work(b + 1:b + int(node%layer%n_out, i8)*nb), &
            & work(w + 1:w + int(node%layer%n_work, i8)*nb))
        end if
      end associate
    end do
    call join_outputs(self, nb, work, dy)
  end subroutine forward_tl

  !> `x_ad <- x_ad + (df/dx)^T y_ad`, `p_ad <- p_ad + (df/dp)^T y_ad`
  subroutine forward_ad(self, nb, p, linearisation, y_ad, x_ad, work, p_ad)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation((self%n_values + self%n_records)*nb)
    real(rk), intent(in) :: y_ad(self%n_outputs, nb)
    real(rk), intent(inout) :: x_ad(self%n_inputs, nb)
    real(rk), intent(inout) :: work((self%n_values + self%n_layer_work)*nb)
    !> Absent means not wanted
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i
    integer(i8) :: a, b, c, w

    w = self%n_values*nb
    work(1:w) = 0.0_rk
    call join_outputs_ad(self, nb, y_ad, work)
    do i = self%n_nodes, 1, -1
      associate (node => self%nodes(i))
        if (.not. allocated(node%layer)) cycle
        a = node%input_offset*nb
        b = node%offsets(1)*nb
        c = (self%n_values + node%record_offset)*nb
        if (node%layer%is_identity) then
          continue
        else if (present(p_ad) .and. node%layer%n_parameters > 0) then
          call node%layer%forward_ad(nb, &
            & p(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters), &
            & linearisation(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & linearisation(c + 1:c + int(node%layer%n_record, i8)*nb), &
            & work(b + 1:b + int(node%layer%n_out, i8)*nb), &
            & work(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & work(w + 1:w + int(node%layer%n_work, i8)*nb), &
            & p_ad(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters))
        else
          call node%layer%forward_ad(nb, &
            & p(node%parameter_offset + 1:node%parameter_offset + node%layer%n_parameters), &
            & linearisation(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & linearisation(c + 1:c + int(node%layer%n_record, i8)*nb), &
            & work(b + 1:b + int(node%layer%n_out, i8)*nb), &
            & work(a + 1:a + int(node%layer%n_in, i8)*nb), &
            & work(w + 1:w + int(node%layer%n_work, i8)*nb))
        end if
        if (node%gathers) call gather_ad(self, node, nb, work)
      end associate
    end do
    call split_inputs_ad(self, nb, work, x_ad)
  end subroutine forward_ad

  !> Give each input's part of the flat input vectors to its node.
  pure subroutine split_inputs(self, nb, x, values)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: x(self%n_inputs, nb)
    real(rk), intent(inout) :: values(self%n_values*nb)

    integer :: i, j, n, first
    integer(i8) :: o

    first = 0
    do i = 1, self%n_nodes
      if (allocated(self%nodes(i)%layer)) exit
      n = self%nodes(i)%lengths(1)
      o = self%nodes(i)%offsets(1)*nb
      do j = 1, nb
        values(o + 1:o + n) = x(first + 1:first + n, j)
        o = o + n
      end do
      first = first + n
    end do
  end subroutine split_inputs

  pure subroutine split_inputs_ad(self, nb, values_ad, x_ad)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: values_ad(self%n_values*nb)
    real(rk), intent(inout) :: x_ad(self%n_inputs, nb)

    integer :: i, j, n, first
    integer(i8) :: o

    first = 0
    do i = 1, self%n_nodes
      if (allocated(self%nodes(i)%layer)) exit
      n = self%nodes(i)%lengths(1)
      o = self%nodes(i)%offsets(1)*nb
      do j = 1, nb
        x_ad(first + 1:first + n, j) = x_ad(first + 1:first + n, j) + values_ad(o + 1:o + n)
        o = o + n
      end do
      first = first + n
    end do
  end subroutine split_inputs_ad

  !> Make the flat output vectors.
  pure subroutine join_outputs(self, nb, values, y)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: values(self%n_values*nb)
    real(rk), intent(out) :: y(self%n_outputs, nb)

    integer :: i, j, n, first
    integer(i8) :: o

    first = 0
    do i = 1, size(self%outputs)
      associate (node => self%nodes(self%outputs(i)%node), output => self%outputs(i)%output)
        n = node%lengths(output)
        o = node%offsets(output)*nb
        do j = 1, nb
          y(first + 1:first + n, j) = values(o + 1:o + n)
          o = o + n
        end do
        first = first + n
      end associate
    end do
  end subroutine join_outputs

  pure subroutine join_outputs_ad(self, nb, y_ad, values_ad)
    class(network), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: y_ad(self%n_outputs, nb)
    real(rk), intent(inout) :: values_ad(self%n_values*nb)

    integer :: i, j, n, first
    integer(i8) :: o

    first = 0
    do i = 1, size(self%outputs)
      associate (node => self%nodes(self%outputs(i)%node), output => self%outputs(i)%output)
        n = node%lengths(output)
        o = node%offsets(output)*nb
        do j = 1, nb
          values_ad(o + 1:o + n) = values_ad(o + 1:o + n) + y_ad(first + 1:first + n, j)
          o = o + n
        end do
        first = first + n
      end associate
    end do
  end subroutine join_outputs_ad

  !> Copy a node's inputs one after the other.
  pure subroutine gather(self, node, nb, values)
    class(network), intent(in) :: self
    type(network_node), intent(in) :: node
    integer, intent(in) :: nb
    real(rk), intent(inout) :: values(self%n_values*nb)

    integer :: i
    integer(i8) :: from, to, n

    to = node%input_offset*nb
    do i = 1, size(node%sources)
      associate (source => self%nodes(node%sources(i)%node), output => node%sources(i)%output)
        from = source%offsets(output)*nb
        n = int(source%lengths(output), i8)*nb
      end associate
      values(to + 1:to + n) = values(from + 1:from + n)
      to = to + n
    end do
  end subroutine gather

  pure subroutine gather_ad(self, node, nb, values_ad)
    class(network), intent(in) :: self
    type(network_node), intent(in) :: node
    integer, intent(in) :: nb
    real(rk), intent(inout) :: values_ad(self%n_values*nb)

    integer :: i
    integer(i8) :: from, to, n

    to = node%input_offset*nb
    do i = 1, size(node%sources)
      associate (source => self%nodes(node%sources(i)%node), output => node%sources(i)%output)
        from = source%offsets(output)*nb
        n = int(source%lengths(output), i8)*nb
      end associate
      values_ad(from + 1:from + n) = values_ad(from + 1:from + n) + values_ad(to + 1:to + n)
      to = to + n
    end do
  end subroutine gather_ad

  !> Compare with the results of the original network that came with this one: outputs, tangent
  !> linear and adjoint.
  subroutine self_test(self, status, message)
    class(network), intent(in) :: self
    integer, intent(out) :: status
    !> What differs
    character(len=:), allocatable, intent(out) :: message

    real(rk), allocatable :: linearisation(:), work(:), y(:), dy(:), x_ad(:), p_ad(:)
    real(rk) :: tolerance
    integer :: i
    character(len=12) :: number

    ! Relative to the largest value; sums of many terms in another order differ by some roundings
    tolerance = 1.0e-10_rk
    if (self%precision == 4) tolerance = 1.0e-4_rk
    status = status_invalid_argument
    if (.not. self%accepts_batch(1)) then
      message = "the network is too large"
      return
    end if
    allocate (linearisation(self%linearisation_size(1)), work(self%work_size(1)), &
      & y(self%n_outputs), dy(self%n_outputs), x_ad(self%n_inputs), p_ad(self%n_parameters), &
      & stat=status)
    if (status /= 0) then
      status = status_out_of_memory
      message = "there is no memory to run the network"
      return
    end if
    status = status_self_test
    do i = 1, size(self%references)
      write (number, "(i0)") i
      associate (reference => self%references(i))
        x_ad = 0.0_rk
        p_ad = 0.0_rk
        call self%forward(1, self%parameters, reference%x, y, linearisation, work)
        if (size(reference%dp) > 0) then
          call self%forward_tl(1, self%parameters, linearisation, reference%dx, dy, work, &
            & reference%dp)
          call self%forward_ad(1, self%parameters, linearisation, reference%y_ad, x_ad, work, p_ad)
        else
          call self%forward_tl(1, self%parameters, linearisation, reference%dx, dy, work)
          call self%forward_ad(1, self%parameters, linearisation, reference%y_ad, x_ad, work)
        end if
        if (.not. agree(y, reference%y, tolerance)) then
          message = "the output differs from reference " // trim(number)
        else if (.not. agree(dy, reference%dy, tolerance)) then
          message = "the tangent linear differs from reference " // trim(number)
        else if (.not. agree(x_ad, reference%x_ad, tolerance)) then
          message = "the adjoint differs from reference " // trim(number)
        else if (size(reference%p_ad) > 0 .and. .not. agree(p_ad(:size(reference%p_ad)), &
          & reference%p_ad, tolerance)) then
          message = "the adjoint of the parameters differs from reference " // trim(number)
        else
          cycle
        end if
        return
      end associate
    end do
    status = status_ok
  end subroutine self_test

  !> Whether two results are equal up to a tolerance relative to the largest value. NaN is equal to
  !> nothing.
  pure function agree(a, b, tolerance) result(answer)
    real(rk), intent(in) :: a(:)
    real(rk), intent(in) :: b(:)
    real(rk), intent(in) :: tolerance
    logical :: answer

    real(rk) :: scale
    integer :: i

    scale = max(maxval(abs(a)), maxval(abs(b)))
    answer = .true.
    do i = 1, size(a)
      if (.not. abs(a(i) - b(i)) <= tolerance*scale) answer = .false.
    end do
  end function agree

end module pybridge_network
