C     SPDX-License-Identifier: MIT
C     FORTRAN 77: a network, a hybrid of Lorenz-96, and a hybrid of a
C     model of our own, with tangent linear and adjoint.
      PROGRAM LEGACY
      INTEGER N, NSTEP
      PARAMETER (N = 8, NSTEP = 10)
      INTEGER*8 NET, MODEL, HYBRID, LINK(3)
      INTEGER ISTAT, NIN, NOUT, NPAR, I
      DOUBLE PRECISION X(N), DX(N), XAD(N), Y(N), DY(N), YAD(N), P(1)
      DOUBLE PRECISION NONE(1)
      CHARACTER*500 PATH
      EXTERNAL STEP, STEPTL, STEPAD
      NONE(1) = 0D0
      READ (*, '(A)') PATH

      CALL PBNLD(PATH, 500, NET, ISTAT)
      CALL NEED(ISTAT)
      CALL PBNSZ(NET, NIN, NOUT, NPAR, ISTAT)
      CALL NEED(ISTAT)
      IF (NIN .NE. N .OR. NOUT .NE. N) STOP 1
      CALL START(N, X, DX, XAD)
      CALL PBNTL(NET, 1, X, DX, Y, DY, ISTAT)
      CALL NEED(ISTAT)
      DO 10 I = 1, N
        YAD(I) = XAD(I)
        XAD(I) = 0D0
   10 CONTINUE
      CALL PBNAD(NET, 1, X, YAD, Y, XAD, ISTAT)
      CALL NEED(ISTAT)
      CALL PBNFW(NET, 1, X, Y, ISTAT)
      CALL NEED(ISTAT)
      CALL SHOW('network', N, Y)
      CALL SHOW('network_tl', N, DY)
      CALL SHOW('network_ad', N, XAD)

      CALL PBL96(N, 0.05D0, 8D0, MODEL, ISTAT)
      CALL NEED(ISTAT)
      CALL PBHYB(MODEL, NET, 1, 1, 0, NONE, 0, NONE, HYBRID, ISTAT)
      CALL NEED(ISTAT)
      CALL PBMFR(MODEL)
      CALL RUN('hybrid', HYBRID, N, NSTEP)
      CALL PBMFR(HYBRID)

C     A model of our own: damping, and a cubic term
      P(1) = 0.1D0
      CALL PBUSR(N, 1, P, 0.05D0, STEP, STEPTL, STEPAD, LINK, MODEL,
     &  ISTAT)
      CALL NEED(ISTAT)
      CALL PBHYB(MODEL, NET, 1, 1, 0, NONE, 0, NONE, HYBRID, ISTAT)
      CALL NEED(ISTAT)
      CALL RUN('own', HYBRID, N, NSTEP)
      CALL PBMFR(HYBRID)
      CALL PBMFR(MODEL)
      CALL PBNFR(NET)

C     What does not exist is an error with a sentence
      CALL PBNLD('no such file', 12, NET, ISTAT)
      IF (ISTAT .EQ. 0) STOP 1
      CALL PBMSG(ISTAT, PATH, 500)
      WRITE (*, '(2A)') 'message ', PATH(1:60)
      END

      SUBROUTINE RUN(NAME, MODEL, N, NSTEP)
      CHARACTER*(*) NAME
      INTEGER*8 MODEL
      INTEGER N, NSTEP, ISTAT, NSTATE, NPAR
      DOUBLE PRECISION X(8), DX(8), XAD(8), DT
      CALL PBMSZ(MODEL, NSTATE, NPAR, DT, ISTAT)
      CALL NEED(ISTAT)
      IF (NSTATE .NE. N .OR. DT .NE. 0.05D0) STOP 1
      CALL START(N, X, DX, XAD)
      CALL PBMTL(MODEL, 0, NSTEP, 1, X, DX, ISTAT)
      CALL NEED(ISTAT)
      CALL PBMAD(MODEL, 0, NSTEP, 1, X, XAD, ISTAT)
      CALL NEED(ISTAT)
      CALL PBMFW(MODEL, 0, NSTEP, 1, X, ISTAT)
      CALL NEED(ISTAT)
      CALL SHOW(NAME, N, X)
      CALL SHOW(NAME//'_tl', N, DX)
      CALL SHOW(NAME//'_ad', N, XAD)
      END

      SUBROUTINE START(N, X, DX, XAD)
      INTEGER N, I
      DOUBLE PRECISION X(N), DX(N), XAD(N)
      DO 10 I = 1, N
        X(I) = 3D0 + SIN(DBLE(I))
        DX(I) = COS(DBLE(I))
        XAD(I) = 1D0/I
   10 CONTINUE
      END

      SUBROUTINE SHOW(NAME, N, X)
      CHARACTER*(*) NAME
      INTEGER N, I
      DOUBLE PRECISION X(N)
      WRITE (*, '(A, 8(1X, E24.16E3))') NAME, (X(I), I = 1, N)
      END

      SUBROUTINE NEED(ISTAT)
      INTEGER ISTAT
      CHARACTER*80 TEXT
      IF (ISTAT .EQ. 0) RETURN
      CALL PBMSG(ISTAT, TEXT, 80)
      WRITE (*, *) TEXT
      STOP 1
      END

C     x <- x - dt (p x + 0.01 x**3)
      SUBROUTINE STEP(K, T, N, NPAR, P, X, IERR)
      INTEGER K, N, NPAR, IERR, I
      DOUBLE PRECISION T, P(NPAR), X(N)
      DO 10 I = 1, N
        X(I) = X(I) - 0.05D0*(P(1)*X(I) + 0.01D0*X(I)**3)
   10 CONTINUE
      END

      SUBROUTINE STEPTL(K, T, N, NPAR, P, X, DP, DX, IERR)
      INTEGER K, N, NPAR, IERR, I
      DOUBLE PRECISION T, P(NPAR), X(N), DP(NPAR), DX(N)
      DO 10 I = 1, N
        DX(I) = DX(I)*(1D0 - 0.05D0*(P(1) + 0.03D0*X(I)**2))
     &    - 0.05D0*X(I)*DP(1)
   10 CONTINUE
      END

      SUBROUTINE STEPAD(K, T, N, NPAR, P, X, XAD, PAD, IERR)
      INTEGER K, N, NPAR, IERR, I
      DOUBLE PRECISION T, P(NPAR), X(N), XAD(N), PAD(NPAR)
      DO 10 I = 1, N
        PAD(1) = PAD(1) - 0.05D0*X(I)*XAD(I)
        XAD(I) = XAD(I)*(1D0 - 0.05D0*(P(1) + 0.03D0*X(I)**2))
   10 CONTINUE
      END
