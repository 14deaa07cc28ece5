{% macro _refuse_others(relation, counts, rows) %}
  {#- Whatever changed the table in the meantime: what it is to be is known. -#}
  {%- set found = counts | map(attribute=1) | sum -%}
  {%- if found != rows -%}
    {%- do exceptions.raise_compiler_error(
      "the table " ~ relation ~ " was changed while the model ran: it would have " ~ found
      ~ " rows instead of " ~ rows ~ "; it stays as it is, and all answers are kept: run dbt again"
    ) -%}
  {%- endif -%}
{% endmacro %}
